/*-------------------------------------------------------------------------
 *
 * chart.c
 *		Charts over time, as inline SVG.
 *
 * Charts are drawn small and scaled to the width of their column, so that their
 * text is readable on a phone too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "pgtime.h"

#include "api/chart.h"
#include "api/html.h"

/* The size of the drawing, and the edges of the plot. */
#define WIDTH	440.0
#define HEIGHT	190.0
#define LEFT	46.0
#define RIGHT	434.0
#define TOP		10.0
#define BOTTOM	166.0

#define MAX_TICKS	6			/* of the time */

static double
value_of(const CsChart *chart, int series, int i)
{
	double		value = chart->series[series].values[i];

	return isnan(value) ? 0 : value;
}

/* Return the largest value, or sum of values, that is drawn. */
static double
highest(const CsChart *chart)
{
	double		high = 0;

	for (int i = 0; i < chart->n; i++)
	{
		double		sum = 0;

		for (int s = 0; s < chart->nseries; s++)
		{
			if (chart->kind == CS_CHART_BARS)
				sum += value_of(chart, s, i);
			else
				sum = Max(sum, value_of(chart, s, i));
		}
		high = Max(high, sum);
	}
	return high;
}

/* Return the distance of the grid lines: a round value, for at most five lines. */
static double
round_distance(double high)
{
	double		rough = high / 4;
	double		power = pow(10, floor(log10(rough)));
	double		parts = rough / power;

	return power * (parts <= 1 ? 1 : parts <= 2 ? 2 : parts <= 2.5 ? 2.5 : parts <= 5 ? 5 : 10);
}

static double
y_of(double value, double top_value)
{
	return BOTTOM - (BOTTOM - TOP) * value / top_value;
}

/* Append a value in a short form such as 25k or 2.5. */
static void
put_short(StringInfo page, double value)
{
	if (value >= 1e6)
		appendStringInfo(page, "%gM", value / 1e6);
	else if (value >= 1e4)
		appendStringInfo(page, "%gk", value / 1e3);
	else
		appendStringInfo(page, "%g", value);
}

static void
put_values(StringInfo page, double distance, double top_value)
{
	appendStringInfoString(page, "<path class=\"grid\" d=\"");
	for (double value = distance; value <= top_value * 1.001; value += distance)
		appendStringInfo(page, "M%g %.1fH%g", LEFT, y_of(value, top_value), RIGHT);
	appendStringInfo(page, "\"/><path class=\"axis\" d=\"M%g %gH%g\"/>", LEFT, BOTTOM, RIGHT);
	for (double value = 0; value <= top_value * 1.001; value += distance)
	{
		appendStringInfo(page, "<text class=\"y\" x=\"%g\" y=\"%.0f\">", LEFT - 6, y_of(value, top_value) + 4);
		put_short(page, value);
		appendStringInfoString(page, "</text>");
	}
}

/* Mark whole hours or days in the session's time zone. */
static void
put_times(StringInfo page, const CsChart *chart)
{
	static const double distances[] = {
		60, 300, 600, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 2 * 86400, 7 * 86400,
		14 * 86400, 28 * 86400, 91 * 86400
	};
	double		period = chart->step * chart->n;
	pg_time_t	start = timestamptz_to_time_t(chart->start);
	long		offset = pg_localtime(&start, session_timezone)->tm_gmtoff;
	int			d = 0;

	while (d < lengthof(distances) - 1 && period / distances[d] > MAX_TICKS)
		d++;
	for (double t = ceil((start + offset) / distances[d]) * distances[d] - offset;
		 t <= start + period; t += distances[d])
	{
		double		x = LEFT + (RIGHT - LEFT) * (t - start) / period;
		TimestampTz time = time_t_to_timestamptz((pg_time_t) t);
		bool		midnight = fmod(t + offset, 86400) == 0;

		appendStringInfo(page, "<path class=\"axis\" d=\"M%.1f %gv4\"/>", x, BOTTOM);
		appendStringInfo(page, "<text class=\"x\" x=\"%.0f\" y=\"%g\">",
						 Min(Max(x, LEFT + 6), RIGHT - 14), BOTTOM + 17);
		cs_html_time(page, midnight ? "%d %b" : "%H:%M", time);
		appendStringInfoString(page, "</text>");
	}
}

/*
 * Append the bars of one series as the strokes of one path.  If they are stacked, they stand on those of
 * the series before.  A bar that is there can be seen: what
 * is few among many has a height, too.
 */
static void
put_bars(StringInfo page, const CsChart *chart, int series, double top_value, double *below)
{
	double		width = (RIGHT - LEFT) / chart->n;

	appendStringInfo(page, "<path class=\"bar-%s\" stroke-width=\"%.1f\" d=\"", chart->series[series].color, width * 0.84);
	for (int i = 0; i < chart->n; i++)
	{
		double		value = value_of(chart, series, i);
		double		height = Max((BOTTOM - TOP) * value / top_value, 1.5);

		if (value <= 0)
			continue;
		appendStringInfo(page, "M%.1f %gV%.1f", LEFT + (i + 0.5) * width, round((BOTTOM - below[i]) * 10) / 10,
						 BOTTOM - below[i] - height);
		if (chart->kind == CS_CHART_BARS)
			below[i] += height;
	}
	appendStringInfoString(page, "\"/>");
}

/* Append all series; of layers, those behind come first. */
static void
put_all_bars(StringInfo page, const CsChart *chart, double top_value)
{
	double	   *below = palloc0(chart->n * sizeof(double));

	for (int s = 0; s < chart->nseries; s++)
		put_bars(page, chart, chart->kind == CS_CHART_BARS ? s : chart->nseries - 1 - s, top_value, below);
	pfree(below);
}

/* Describe in words what is drawn. */
static void
put_description(StringInfo page, const CsChart *chart)
{
	appendStringInfo(page, "<title id=\"%s-title\">", chart->id);
	cs_html_text(page, chart->title);
	appendStringInfo(page, "</title><desc id=\"%s-desc\">", chart->id);
	for (int s = 0; s < chart->nseries; s++)
	{
		double		high = 0;
		int			at = 0;

		for (int i = 0; i < chart->n; i++)
			if (value_of(chart, s, i) > high)
			{
				high = value_of(chart, s, i);
				at = i;
			}
		appendStringInfo(page, "%s: at most %.4g %s", chart->series[s].name, high, chart->unit);
		if (high > 0)
			cs_html_time(page, " about %Y-%m-%d %H:%M",
						 chart->start + (TimestampTz) (at * chart->step * USECS_PER_SEC));
		appendStringInfoString(page, ". ");
	}
	appendStringInfoString(page, "The table of the data below has each value.</desc>");
}

static void
put_caption(StringInfo page, const CsChart *chart)
{
	appendStringInfoString(page, "<figcaption><h3>");
	cs_html_text(page, chart->title);
	appendStringInfo(page, " <span class=\"unit\">(%s)</span></h3>", chart->unit);
	if (chart->nseries > 1)
	{
		appendStringInfoString(page, "<span class=\"legend\">");
		for (int s = 0; s < chart->nseries; s++)
			appendStringInfo(page, "<i class=\"back-%s\"></i>%s", chart->series[s].color,
							 chart->series[s].name);
		appendStringInfoString(page, "</span>");
	}
	appendStringInfoString(page, "</figcaption>");
}

void
cs_chart_put(StringInfo page, const CsChart *chart)
{
	double		high = highest(chart);
	double		distance = round_distance(high > 0 ? high : 4);
	double		top_value = Max(ceil(high / distance), 1) * distance;

	appendStringInfoString(page, "<figure>");
	put_caption(page, chart);
	appendStringInfo(page, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-labelledby=\"%s-title %s-desc\">",
					 WIDTH, HEIGHT, chart->id, chart->id);
	put_description(page, chart);
	put_values(page, distance, top_value);
	put_times(page, chart);
	put_all_bars(page, chart, top_value);
	appendStringInfoString(page, "</svg></figure>\n");
}
