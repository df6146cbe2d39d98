/*-------------------------------------------------------------------------
 *
 * settings.h
 *		Settings; settings.c says what each is for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_SETTINGS_H
#define CS_BASE_SETTINGS_H

extern double cs_clock_speed;
extern bool cs_allow_http;
extern int	cs_launcher_naptime;	/* s */
extern int	cs_probe_interval;	/* s */
extern int	cs_source_timeout;	/* ms */
extern int	cs_max_databases;	/* the same as long as the server runs */
extern int	cs_max_pending;		/* changes in memory per lane */
extern int	cs_call_log_rows;
extern int	cs_call_log_age;	/* min */
extern int	cs_contact_log_rows;
extern int	cs_contact_log_age; /* min */
extern int	cs_failure_rows;
extern int	cs_failure_age;		/* min */
extern int	cs_history_age;		/* min */
extern int	cs_notify_failures; /* contacts a minute; 0: never */
extern int	cs_run_log_rows;
extern int	cs_run_log_age;		/* min */
extern int	cs_trace_rows;

extern void cs_settings_define(void);

#endif							/* CS_BASE_SETTINGS_H */
