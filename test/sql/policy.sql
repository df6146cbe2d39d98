-- What a watch may do at each provider, and what it does unless its arguments say otherwise: what docs/providers.md says
-- that is rejected, and the defaults of arguments and settings.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_policy;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_policy;
GRANT CREATE ON SCHEMA public TO regress_policy;
SET SESSION AUTHORIZATION regress_policy;
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b');
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', topic_id 't');
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', check_fields 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (access_token 'a');
CREATE USER MAPPING FOR CURRENT_USER SERVER owlat OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER spotzee OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER mailingcore OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER campaignlark OPTIONS (api_key 'k');
CREATE TABLE people (id integer PRIMARY KEY, email text, wants boolean);

-- Make a watch, and return the error, or nothing; keep it not.
CREATE FUNCTION try(server name, mapping jsonb, on_delete text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM contactsync_watch('people', server, mapping, on_delete => on_delete);
	RAISE SQLSTATE 'TAKEN';
EXCEPTION
	WHEN SQLSTATE 'TAKEN' THEN RETURN NULL;
	WHEN OTHERS THEN RETURN SQLERRM;
END $$;
\pset format unaligned
\pset null taken

-- removals
SELECT server, on_delete, try(server, '{"external_id": "id", "email": "email", "opt_in": "wants"}'::jsonb
		- CASE WHEN server IN ('caramel', 'owlat') THEN 'external_id' ELSE '' END - CASE server WHEN 'caramel' THEN 'opt_in' ELSE '' END, on_delete) AS error
FROM unnest('{caramel,owlat,spotzee,mailingcore,campaignlark}'::name[]) AS s (server), unnest('{ignore,unsubscribe,delete}'::text[]) AS d (on_delete)
ORDER BY d.on_delete, s.server;

-- consent: where it could not be delivered, and where it would be claimed of everybody
SELECT server, mapping, try(server, mapping) AS error
FROM unnest('{caramel,owlat,spotzee,mailingcore,campaignlark}'::name[]) AS s (server),
	(VALUES ('{"external_id": "id", "email": "email"}'::jsonb), ('{"external_id": "id", "email": "email", "opt_in": "wants"}')) AS m (with_id),
	LATERAL (SELECT with_id - CASE WHEN server IN ('caramel', 'owlat') THEN 'external_id' ELSE '' END) AS w (mapping)
ORDER BY s.server, mapping::text;
ALTER SERVER caramel OPTIONS (ADD form_id 'f');
SELECT try('caramel', '{"email": "email"}') AS everybody, try('caramel', '{"email": "email", "opt_in": "wants"}') AS who_wants;
ALTER SERVER caramel OPTIONS (ADD route 'form');
SELECT try('caramel', '{"email": "email"}') AS everybody, try('caramel', '{"email": "email", "opt_in": "wants"}') AS who_wants;
ALTER SERVER caramel OPTIONS (ADD form_sets_consent 'false');
SELECT try('caramel', '{"email": "email"}') AS everybody, try('caramel', '{"email": "email", "opt_in": "wants"}') AS who_wants;
\pset null ''

-- defaults
SELECT contactsync_watch('people', 'mailingcore', '{"external_id": "id", "email": "email"}') > 0 AS watched;
SELECT on_delete, claims, delete_delay, delete_guard IS NULL AS preset_guard, filter, poll_column, reconcile_every FROM contactsync.watches;
SELECT contactsync_unwatch('people', 'mailingcore');

DROP TABLE people;
DROP FUNCTION try;
DROP SERVER caramel, owlat, spotzee, mailingcore, campaignlark CASCADE;
RESET SESSION AUTHORIZATION;

-- settings: their defaults, and who may change them
SELECT substr(name, 13) AS name, boot_val, unit, context FROM pg_settings WHERE name LIKE 'contactsync.%' ORDER BY name COLLATE "C";

DROP OWNED BY regress_policy;
DROP ROLE regress_policy;
