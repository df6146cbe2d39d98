/*-------------------------------------------------------------------------
 *
 * alert_body.h
 *		What is sent to alert_url; pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ALERT_BODY_H
#define CS_DELIVERY_ALERT_BODY_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "store/alert.h"

/* As the words of alert_format are counted. */
typedef enum CsAlertFormat
{
	CS_ALERT_TEXT,				/* one object with "text", and fields */
	CS_ALERT_TEAMS,				/* a message with an adaptive card */
	CS_ALERT_PAGERDUTY			/* an event of PagerDuty's Events API v2 */
} CsAlertFormat;

/*
 * Write the JSON.  "key" is the routing key of PagerDuty, or NULL; no other format has
 * it in the body.
 */
extern void cs_alert_body_write(StringInfo out, const CsAlert *alert, CsAlertFormat format,
								const char *key);

#endif							/* CS_DELIVERY_ALERT_BODY_H */
