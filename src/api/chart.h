/*-------------------------------------------------------------------------
 *
 * chart.h
 *		Charts over time, as inline SVG.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_CHART_H
#define CS_API_CHART_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#define CS_CHART_SERIES	2

typedef enum CsChartKind
{
	CS_CHART_BARS,				/* one upon the other */
	CS_CHART_LINES				/* with gaps where there is no value */
} CsChartKind;

typedef struct CsSeries
{
	const char *name;
	const char *color;			/* synced, failed, fast, slow or waiting */
	const double *values;		/* n of the chart; NaN: none */
} CsSeries;

typedef struct CsChart
{
	const char *id;				/* unique in the page */
	const char *title;
	const char *unit;			/* plain ASCII */
	CsChartKind kind;
	TimestampTz start;
	double		step;			/* s, of one value */
	int			n;
	int			nseries;
	CsSeries	series[CS_CHART_SERIES];
} CsChart;

/* Effect: appends a figure to the page, also for those who cannot see it. */
extern void cs_chart_put(StringInfo page, const CsChart *chart);

#endif							/* CS_API_CHART_H */
