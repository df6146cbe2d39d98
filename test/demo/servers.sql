-- A server for each simulated provider, with the key of its default account, and views of what the providers have:
-- :sandbox is the URL of the simulators (test/sandbox).
CREATE EXTENSION contactsync;

\set url :sandbox /mailingcore
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'mailingcore', base_url :'url', tenant_id 'clx_sandbox');
CREATE USER MAPPING FOR CURRENT_USER SERVER mailingcore OPTIONS (api_key 'mc_test_sandbox');

\set url :sandbox /campaignlark/v1
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'campaignlark', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER campaignlark OPTIONS (api_key 'cl_sandbox');

\set url :sandbox /caramel/mcp
\set token_url :sandbox /caramel/token
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'caramel', base_url :'url', business_id 'bus_01h7m9k0aabcdefghj1234567', form_id 'frm_import',
		token_url :'token_url', client_id 'client_sandbox');
CREATE USER MAPPING FOR CURRENT_USER SERVER caramel
	OPTIONS (access_token 'caramel_sandbox', refresh_token 'rt_sandbox');

\set url :sandbox /owlat
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'owlat', base_url :'url', topic_id 'topicsingle000000000000000000000');
CREATE USER MAPPING FOR CURRENT_USER SERVER owlat OPTIONS (api_key 'lm_live_sandbox0000000000000000000000000');

\set url :sandbox /spotzee/api/client
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'spotzee', base_url :'url', subscription_id '5');
CREATE USER MAPPING FOR CURRENT_USER SERVER spotzee OPTIONS (api_key 'sk_sandbox');

CREATE SCHEMA sandbox;
COMMENT ON SCHEMA sandbox IS 'what the simulated providers have';

-- Ask the simulators over HTTP, with Python, because it is there: the simulators are written in it.
CREATE FUNCTION sandbox.get(path text) RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF to_regclass('pg_temp.sandbox_answer') IS NULL THEN
		CREATE TEMPORARY TABLE sandbox_answer (answer text);
	END IF;
	TRUNCATE sandbox_answer;
	-- neither character is in JSON, so an answer is one value
	EXECUTE format('COPY sandbox_answer FROM PROGRAM %L WITH (FORMAT csv, DELIMITER %L, QUOTE %L, ENCODING ''UTF8'')',
		format($python$/usr/bin/python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())' %s%s$python$,
			sandbox.url(), path), chr(1), chr(2));
	RETURN QUERY SELECT e FROM sandbox_answer, jsonb_array_elements(answer::jsonb) AS e;
END $$;

SELECT format('CREATE FUNCTION sandbox.url() RETURNS text LANGUAGE sql IMMUTABLE RETURN %L', :'sandbox') \gexec

CREATE VIEW sandbox.providers AS
SELECT srvname::text AS provider FROM pg_foreign_server JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw AND fdwname = 'contactsync'
WHERE srvname IN ('mailingcore', 'campaignlark', 'caramel', 'owlat', 'spotzee');

CREATE VIEW sandbox.contacts AS
SELECT provider, COALESCE(c ->> 'email', c ->> 'email_address') AS email, c AS contact
FROM sandbox.providers, sandbox.get('/control/' || provider || '/contacts') AS c;
COMMENT ON VIEW sandbox.contacts IS 'contacts that the simulated providers have';

CREATE VIEW sandbox.people AS
SELECT provider, c ->> 'email' AS email, (c ->> 'mailable')::boolean AS mailable, c ->> 'by' AS by
FROM sandbox.providers, sandbox.get('/control/' || provider || '/mailable') AS c;
COMMENT ON VIEW sandbox.people IS 'who can be mailed by the simulated providers, and by whose word';

CREATE VIEW sandbox.requests AS
SELECT provider, (c ->> 'seq')::integer AS seq, to_timestamp((c ->> 'wall')::float8) AS at, c ->> 'method' AS method, c ->> 'path' AS path,
	(c ->> 'status')::integer AS status, c ->> 'body' AS body
FROM sandbox.providers, sandbox.get('/control/' || provider || '/journal') AS c;
COMMENT ON VIEW sandbox.requests IS 'requests that the simulated providers received';
