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
	CS_CHART_BARS,				/* stacked */
	CS_CHART_LAYERS				/* the first in front of the others */
} CsChartKind;

typedef struct CsSeries
{
	const char *name;
	const char *color;			/* synced, failed, fast, slow or waiting */
	const double *values;		/* as many as CsChart.n; NaN: none */
} CsSeries;

typedef struct CsChart
{
	const char *id;				/* unique in the page */
	const char *title;
	const char *unit;			/* plain ASCII */
	CsChartKind kind;
	TimestampTz start;
	double		step;			/* s between values */
	int			n;
	int			nseries;
	CsSeries	series[CS_CHART_SERIES];
} CsChart;

/* Append a chart to the page, with a description for screen readers. */
extern void cs_chart_put(StringInfo page, const CsChart *chart);

#endif							/* CS_API_CHART_H */
