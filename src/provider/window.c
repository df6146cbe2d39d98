/*-------------------------------------------------------------------------
 *
 * window.c
 *		A part of the day, such as the option send_window.
 *
 * Its times are those of a time zone that it names, or of log_timezone: unlike
 * TimeZone, that is the same in the worker and in all sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "provider/window.h"

/* Read "hh:mm" at the beginning of a text into seconds of the day.  Return what follows, or NULL. */
static const char *
read_time(const char *text, int *seconds)
{
	int			n[5];

	for (int i = 0; i < 5; i++)
	{
		if (i == 2 ? text[i] != ':' : (text[i] < '0' || text[i] > '9'))
			return NULL;
		n[i] = text[i] - '0';
	}
	*seconds = ((n[0] * 10 + n[1]) * MINS_PER_HOUR + n[3] * 10 + n[4]) * SECS_PER_MINUTE;
	return n[3] < 6 && *seconds <= SECS_PER_DAY ? text + 5 : NULL;
}

const char *
cs_window_read(const char *value, CsWindow *window)
{
	const char *rest = read_time(value, &window->from);

	window->given = false;
	window->zone = NULL;
	if (rest && *rest == '-')
		rest = read_time(rest + 1, &window->until);
	else
		rest = NULL;
	if (rest && *rest == ' ')
	{
		window->zone = pg_tzset(rest + 1);
		if (window->zone == NULL || !pg_tz_acceptable(window->zone))
			return "must end with a time zone that exists, such as \"Europe/Berlin\", or with none";
	}
	else if (rest && *rest != '\0')
		rest = NULL;
	if (rest == NULL || window->from == SECS_PER_DAY || window->from == window->until)
		return "must be a part of the day such as \"22:00-06:00\", or \"22:00-06:00 Europe/Berlin\"";
	window->given = true;
	return NULL;
}

/* Return the seconds of the day in the zone of the window. */
static int
seconds_of_day(const CsWindow *window, pg_time_t at)
{
	const struct pg_tm *tm = pg_localtime(&at, window->zone ? window->zone : log_timezone);

	return tm->tm_hour * SECS_PER_HOUR + tm->tm_min * SECS_PER_MINUTE + tm->tm_sec;
}

int
cs_window_opens_in(const CsWindow *window, pg_time_t at)
{
	int			now;
	int			wait;
	int			late;

	if (!window->given)
		return 0;
	now = seconds_of_day(window, at);
	if (window->from < window->until ? now >= window->from && now < window->until :
		now >= window->from || now < window->until)
		return 0;
	wait = (window->from - now + SECS_PER_DAY) % SECS_PER_DAY;
	/* the clock may be set between, for daylight saving time */
	late = (seconds_of_day(window, at + wait) - window->from + SECS_PER_DAY) % SECS_PER_DAY;
	if (late >= SECS_PER_DAY / 2)
		late -= SECS_PER_DAY;
	return Max(wait - late, 1);
}
