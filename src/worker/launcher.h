/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		One process per cluster that starts a worker per database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_LAUNCHER_H
#define CS_LAUNCHER_H

extern void cs_launcher_register(void);
extern void cs_launcher_hook(void);

#endif							/* CS_LAUNCHER_H */
