/*-------------------------------------------------------------------------
 *
 * window.h
 *		A part of the day, such as the option send_window.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_WINDOW_H
#define CS_PROVIDER_WINDOW_H

#include "postgres.h"

#include "pgtime.h"

typedef struct CsWindow
{
	bool		given;			/* false: it is always open */
	int			from;			/* seconds of the day */
	int			until;			/* ... not included; before "from": of the
								 * next day */
	pg_tz	   *zone;			/* NULL: that of the setting log_timezone */
} CsWindow;

/*
 * Read a window such as "22:00-06:00", or "22:00-06:00 Europe/Berlin".  Return NULL, or
 * what it must be, as CsOptionCheck does; the window is not given then.
 */
extern const char *cs_window_read(const char *value, CsWindow *window);

/* Return the seconds from that time, in Unix seconds, until the window opens; 0: it is open. */
extern int	cs_window_opens_in(const CsWindow *window, pg_time_t at);

#endif							/* CS_PROVIDER_WINDOW_H */
