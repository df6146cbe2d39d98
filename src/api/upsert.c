/*-------------------------------------------------------------------------
 *
 * upsert.c
 *		contactsync_upsert(): queue a contact that is in no table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/wakeup.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/queue.h"

CS_FUNCTION(contactsync_upsert);

/* Raise an error if the provider is known to refuse the contact. */
static void
check_contact(const CsEndpoint *endpoint, Jsonb *jsonb)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	uint32		unknown = contact->present & ~endpoint->provider->fields;
	CsRefusal  *refusal;

	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("%s does not support the field %s", "%s does not support the fields %s",
							   pg_popcount32(unknown), endpoint->provider->title,
							   cs_contact_field_list(unknown)),
				 errhint("It supports: %s.", cs_contact_field_list(endpoint->provider->fields))));
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("contact cannot be sent: %s", cs_text_from_utf8(refusal->message))));
}

/* contactsync_upsert(server, contact): queue a contact in the caller's transaction. */
Datum
contactsync_upsert(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	CsEndpoint *endpoint = cs_server_read(serverid, GetUserId());
	Jsonb	   *contact = PG_GETARG_JSONB_P(1);
	CsQueueWriter *writer;
	CsSqlScope	scope;
	Oid			roleid;
	int			endpoint_id;
	int64		id;

	check_contact(endpoint, contact);
	roleid = cs_sql_enter(&scope);
	endpoint_id = cs_endpoint_state_id(serverid, endpoint->server_name, roleid);
	cs_sql_leave(&scope);
	writer = cs_queue_begin_write(NULL);
	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	id = cs_queue_write(writer, endpoint_id, 0, 1, NULL, contact, CS_QUEUE_CHANGE);
	cs_queue_end_write(writer);
	cs_wakeup_for_endpoint_at_commit(endpoint_id);
	PG_RETURN_INT64(id);
}
