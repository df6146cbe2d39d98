/*-------------------------------------------------------------------------
 *
 * watch.h
 *		What a watch is, and reading the rows of contactsync.watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_WATCH_H
#define CS_STORE_WATCH_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "provider/contact.h"
#include "store/related.h"

/* A canonical field or an attribute, and the expression it comes from. */
typedef struct CsMapped
{
	CsField		field;
	char	   *attribute;		/* name of the attribute, or NULL */
	char	   *attribute_utf8; /* the same as contacts have it */
	char	   *expression;		/* SQL over the row */
	CsValueType type;			/* that the provider wants */
} CsMapped;

typedef enum CsOnDelete
{
	CS_ON_DELETE_IGNORE,
	CS_ON_DELETE_UNSUBSCRIBE,
	CS_ON_DELETE_DELETE
} CsOnDelete;

typedef struct CsWatch
{
	int			id;
	int			endpoint;
	Oid			source;
	Oid			owner;
	int			nkeys;
	char	  **keys;			/* column names */
	int			nmapped;
	CsMapped   *mapped;
	char	   *filter;			/* or NULL */
	char	   *search_path;
	char	   *alias;			/* by which expressions call the source: the
								 * name that it had; NULL: its name */
	CsOnDelete	on_delete;
	bool		broken;
	bool		away;			/* another database sends; see
								 * delivery/database_identity.c */
	TimestampTz stale_before;	/* what was synced before is not trusted */
	bool		guarded;		/* guard.c holds it back */
	bool		guards_removals;	/* or rather removal_guard.c */
	uint64		released;		/* ... except for what is older; a full xid */
	char	   *poll_column;	/* to poll the source by; NULL: triggers */
	double		poll_every;		/* s */
	char	   *poll_overlap;	/* an interval */
	bool		claims_all;		/* claims => 'all' */
	bool		complete;		/* all rows were read once */
	char	   *delete_guard;	/* or NULL: as preset */
	TimestampTz removals_until; /* removals until then were let go; 0: none */
	double		reconcile_next; /* Unix seconds; 0: not scheduled */

	int			ntypes;
	Oid		   *types;			/* by number, of the columns that it uses;
								 * InvalidOid: of others */

	List	   *related;		/* of CsRelated: tables that it uses besides */

	struct Bitmapset *used;		/* columns that it uses, while it is made */
	struct CsReads *reads;		/* ... and other tables with theirs */

	/* of those of cs_watch_load_all() */
	MemoryContext context;		/* of this watch */
	int64		version;		/* differs if anything that is stored does */
} CsWatch;

#define CS_ON_DELETE_WORDS	3
extern const char *const cs_watch_on_delete_words[CS_ON_DELETE_WORDS];	/* by CsOnDelete */

extern List *cs_watch_load_all(void);
extern CsWatch *cs_watch_load(int id);
extern CsWatch *cs_watch_find(Oid source, const char *server, Oid roleid);
extern bool cs_watch_covers(int endpoint, int id, Oid relid);

/* The mapping as JSON, as it is given and stored. */
extern bool cs_watch_read_mapping(CsWatch *watch, Jsonb *mapping);
extern Datum cs_watch_mapping_to_jsonb(const CsWatch *watch);
extern Datum cs_watch_value_types_to_jsonb(const CsWatch *watch);
extern bool cs_watch_maps(const CsWatch *watch, CsField field);
extern void cs_watch_add_mapped(CsWatch *watch, CsField field, char *attribute, char *expression);
extern void cs_watch_keep_value_types(CsWatch *watch, const CsWatch *from);

#endif							/* CS_STORE_WATCH_H */
