/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		One process per cluster that starts a worker per database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_WORKER_LAUNCHER_H
#define CS_WORKER_LAUNCHER_H

extern void cs_launcher_register(void);
extern void cs_launcher_hook(void);

#endif							/* CS_WORKER_LAUNCHER_H */
