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
	for (double value = 0; value <= top_value * 1.001; value += distance)
	{
		double		y = y_of(value, top_value);

		appendStringInfo(page, "<line class=\"%s\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>",
						 value == 0 ? "axis" : "grid", LEFT, RIGHT, y, y);
		appendStringInfo(page, "<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, y + 4);
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

		appendStringInfo(page, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%g\" y2=\"%g\"/>",
						 x, x, BOTTOM, BOTTOM + 4);
		appendStringInfo(page, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">",
						 Min(Max(x, LEFT + 6), RIGHT - 14), BOTTOM + 17);
		cs_html_time(page, midnight ? "%d %b" : "%H:%M", time);
		appendStringInfoString(page, "</text>");
	}
}

static void
put_bars(StringInfo page, const CsChart *chart, double top_value)
{
	double		width = (RIGHT - LEFT) / chart->n;

	for (int i = 0; i < chart->n; i++)
	{
		double		below = 0;

		for (int s = 0; s < chart->nseries; s++)
		{
			double		value = value_of(chart, s, i);
			double		height = (BOTTOM - TOP) * value / top_value;

			if (value <= 0)
				continue;
			/* what is few among many is seen all the same */
			appendStringInfo(page, "<rect class=\"fill-%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
							 chart->series[s].color, LEFT + i * width + width * 0.08,
							 BOTTOM - below - Max(height, 1.5), width * 0.84, Max(height, 1.5));
			below += Max(height, 1.5);
		}
	}
}

static void
put_line(StringInfo page, const CsChart *chart, const CsSeries *series, double top_value)
{
	double		width = (RIGHT - LEFT) / chart->n;
	bool		drawing = false;

	appendStringInfo(page, "<path class=\"line-%s\" d=\"", series->color);
	for (int i = 0; i < chart->n; i++)
	{
		double		value = series->values[i];

		if (!isnan(value))
			appendStringInfo(page, "%c%.1f %.1f", drawing ? 'L' : 'M', LEFT + (i + 0.5) * width,
							 y_of(value, top_value));
		drawing = !isnan(value);
	}
	appendStringInfoString(page, "\"/>");
	for (int i = 0; i < chart->n; i++)
		if (!isnan(series->values[i]))
			appendStringInfo(page, "<circle class=\"fill-%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"1.8\"/>",
							 series->color, LEFT + (i + 0.5) * width, y_of(series->values[i], top_value));
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
	if (chart->kind == CS_CHART_BARS)
		put_bars(page, chart, top_value);
	else
		for (int s = 0; s < chart->nseries; s++)
			put_line(page, chart, &chart->series[s], top_value);
	appendStringInfoString(page, "</svg></figure>\n");
}
