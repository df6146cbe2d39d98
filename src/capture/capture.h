/*-------------------------------------------------------------------------
 *
 * capture.h
 *		The trigger on watched tables and its per-transaction set.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_CAPTURE_H
#define CS_CAPTURE_CAPTURE_H

extern void cs_capture_init(void);

#endif							/* CS_CAPTURE_CAPTURE_H */
