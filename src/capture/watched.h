/*-------------------------------------------------------------------------
 *
 * watched.h
 *		Whether a command can concern a watch, for the event triggers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_WATCHED_H
#define CS_CAPTURE_WATCHED_H

#include "nodes/nodes.h"

/*
 * Return false if the command that has just run concerns no watch, or the objects
 * that it drops none and no endpoint.  Neither waits for a lock: where one is held,
 * they return true.  Only in the event triggers, and before cs_sql_enter().
 */
extern bool cs_watched_by_command(const Node *parsetree);
extern bool cs_watched_by_drop(void);

#endif							/* CS_CAPTURE_WATCHED_H */
