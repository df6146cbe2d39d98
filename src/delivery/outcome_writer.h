/*-------------------------------------------------------------------------
 *
 * outcome_writer.h
 *		Storing the outcomes of one lane.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_OUTCOME_WRITER_H
#define CS_DELIVERY_OUTCOME_WRITER_H

#include "postgres.h"

#include "delivery/outcomes.h"

/* Needs a transaction and the scope of cs_sql_enter(). */
extern void cs_outcome_writer_store(CsLaneOutcomes *outcomes);

#endif							/* CS_DELIVERY_OUTCOME_WRITER_H */
