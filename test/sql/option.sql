-- options of servers and user mappings: what is rejected, and the hint of the error
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = warning;

-- the wrapper and its tables have no options
ALTER FOREIGN DATA WRAPPER contactsync OPTIONS (ADD pace '1');
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx');
CREATE FOREIGN TABLE rows (a integer) SERVER mail OPTIONS (pace '1');

-- the provider determines the other options
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync;
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync OPTIONS (tenant_id 'clx');
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcor');
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync OPTIONS (provider '');
ALTER SERVER mail OPTIONS (DROP provider);

-- placement: every role can read the options of a server
ALTER SERVER mail OPTIONS (ADD api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret', tenant_id 'clx');
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus', access_token 'secret');
CREATE SERVER bad FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus', refresh_token 'secret');

-- values; errors do not repeat them, because they may be a secret in the wrong option
CREATE FUNCTION try(option text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	hint text;
BEGIN
	EXECUTE format('ALTER SERVER mail OPTIONS (ADD %I %L)', option, value);
	RAISE SQLSTATE 'TAKEN';
EXCEPTION
	WHEN SQLSTATE 'TAKEN' THEN
		RETURN 'taken';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
		-- the hint lists all options of the provider, which this test does not check
		RETURN format('%s: %s%s', state, message, substring(hint FROM '^Perhaps[^.]*'));
END $$;
\pset format unaligned
\pset tuples_only
SELECT o, v, try(o, v) FROM (VALUES
	('tenantid', 'clx'), ('colour', 'red'), ('Pace', '1'), ('', '1'),
	('batch_size', '0'), ('batch_size', '1.5'), ('batch_size', '1'), ('batch_size', '1000'), ('batch_size', '1001'),
	('batch_size', '99999999999'),
	('pace', '0'), ('pace', '-1'), ('pace', 'fast'), ('pace', 'nan'), ('pace', 'inf'), ('pace', '1e9'), ('pace', '0.5'),
	('burst', '0'), ('burst', '15'),
	('concurrency', '0'), ('concurrency', '1001'), ('concurrency', '8'), ('concurrency', ' 8'),
	('connect_timeout', '0'), ('connect_timeout', '5s'), ('connect_timeout', '5 parsecs'),
	('timeout', '2d'), ('timeout', '30000'), ('timeout', '30'), ('timeout', '1.5'), ('timeout', '0.5s'), ('timeout', '1min'),
	('max_retries', '-1'), ('max_retries', '0'), ('max_retries', '101'),
	('nulls', 'keep'), ('nulls', 'clear'), ('nulls', ''),
	('proxy', 'none'), ('proxy', 'http://proxy.example.com:3128'), ('proxy', 'http://u:secret@proxy.example.com'),
	('proxy', 'ftp://proxy.example.com'), ('proxy', 'http://proxy.example.com/path'), ('proxy', 'socks5h://127.0.0.1:9050'),
	('ca_file', '/etc/ca.pem'), ('ca_file', '')) AS t (o, v);

-- the hosts to which secrets may be sent: https, or http on this machine, and no ambiguous URLs
SELECT v, try('base_url', v) FROM (VALUES
	('https://api.example.com'), ('https://api.example.com/v1/'), ('HTTPS://api.example.com:8443'), ('https://[2001:db8::1]/'),
	('http://localhost:8080'), ('http://127.0.0.1:8080/mailingcore'), ('http://127.1.2.3'), ('http://[::1]:8080'),
	('http://api.example.com'), ('http://localhost.example.com'), ('http://127.0.0.1.example.com'), ('http://127.1'),
	('http://10.0.0.1'), ('http://[::ffff:127.0.0.1]'),
	('https://user:secret@api.example.com'), ('https://localhost@evil.example.com'), ('https://api.example.com\@evil.example.com'),
	('https://api.example.com?x=1'), ('https://api.example.com/#x'), ('https://api.example.com/a b'),
	('https://api.example.com:0'), ('https://api.example.com:65536'), ('https://api.example.com:1x'), ('https://:443'),
	('https://'), ('https:///path'), ('https://bücher.example'), ('file:///etc/passwd'), ('api.example.com'), (' https://api.example.com'),
	(E'https://api.example.com\r\nX-Evil: 1')) AS t (v);
SET contactsync.allow_http = on;
SELECT try('base_url', 'http://api.example.com');
RESET contactsync.allow_http;

-- alerts, what is tried again by itself, and when scans go on
SELECT o, v, try(o, v) FROM (VALUES
	('alert_url', 'https://hooks.example.com/services/T0/B0/x?a=b'), ('alert_url', 'http://localhost:8080/hook'),
	('alert_url', 'http://hooks.example.com'), ('alert_url', 'https://user:secret@hooks.example.com'), ('alert_url', ''),
	('alert_key', 'secret'), ('alert_format', 'text'), ('alert_format', 'teams'), ('alert_format', 'pagerduty'), ('alert_format', 'slack'),
	('alert_failures', '0'), ('alert_failures', '250'), ('alert_failures', 'many'),
	('alert_backlog_age', '0'), ('alert_backlog_age', '90min'), ('alert_backlog_age', '30d'), ('alert_backlog_age', '31d'),
	('alert_backlog_age', '90'), ('alert_backlog_age', '-1h'),
	('retry_failures_every', '1h'), ('retry_failures_every', '0'), ('retry_failures_every', '3600'), ('retry_failures_every', 'often'),
	('send_window', '22:00-06:00'), ('send_window', '09:30-24:00'), ('send_window', '22:00-06:00 Europe/Berlin'), ('send_window', '22:00-06:00 UTC'),
	('send_window', '22:00'), ('send_window', '22-6'), ('send_window', '24:00-06:00'), ('send_window', '22:00-22:00'), ('send_window', '22:60-23:00'),
	('send_window', '22:00-24:01'), ('send_window', '22:00-06:00 Mars/Olympus'), ('send_window', '22:00-06:00Z'), ('send_window', '22:00 - 06:00')) AS t (o, v);
-- when that is
SELECT contactsync.window_opens_at(NULL) IS NULL AND contactsync.window_opens_at('{}') IS NULL, contactsync.window_opens_at('{send_window=00:00-24:00}') IS NULL;
SELECT a AS opens_in_hours, b AS closes_in_hours, o IS NULL AS open, round(extract(epoch FROM o - now()) / 3600) AS opens_after
FROM (SELECT a, b, contactsync.window_opens_at(ARRAY[format('send_window=%s-%s Asia/Tokyo', to_char(t + a * interval '1 h', 'HH24:MI'), to_char(t + b * interval '1 h', 'HH24:MI'))]) AS o
	FROM (VALUES (-2, 2), (2, 4), (-4, -2), (1, -1), (-1, 1)) AS v (a, b), LATERAL (SELECT now() AT TIME ZONE 'Asia/Tokyo' AS t) t) x;
\pset tuples_only off


-- the secrets of alerts are on the user mapping, where others do not see them; alert_url can be on both
ALTER SERVER mail OPTIONS (ADD alert_url 'https://hooks.example.com/public');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret', alert_url 'http://hooks.example.com/x');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret', alert_key 'with space');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret', alert_failures '7');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret', alert_url 'https://hooks.example.com/x', alert_key 'secret');
-- what concerns only alerts halts nothing if it is not valid any more
SET contactsync.allow_http = on;
ALTER SERVER mail OPTIONS (SET alert_url 'http://hooks.example.com');
RESET contactsync.allow_http;
SELECT count(*) FROM contactsync_preview('mail', '{"email": "jane@example.com"}');
DROP USER MAPPING FOR CURRENT_USER SERVER mail;
ALTER SERVER mail OPTIONS (DROP alert_url);

-- the server's operating system user reads the file, so not every role may choose it
CREATE ROLE regress_contactsync_user;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_contactsync_user;
ALTER SERVER mail OWNER TO regress_contactsync_user;
ALTER SERVER mail OPTIONS (ADD ca_file '/etc/ca.pem');
SET ROLE regress_contactsync_user;
ALTER SERVER mail OPTIONS (ADD pace '3');
RESET ROLE;
ALTER SERVER mail OPTIONS (DROP ca_file);
SET ROLE regress_contactsync_user;
ALTER SERVER mail OPTIONS (ADD pace '3');

-- secrets
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (apikey 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc live secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key E'mc_live_\nsecret');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key '');

-- errors that can only be found where the options are used: the user mapping together with the server
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (ADD api_key 'mc_live_secret');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') > 0 AS queued;

-- a user mapping of the role takes precedence over that of PUBLIC
CREATE USER MAPPING FOR PUBLIC SERVER mail;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') > 0 AS queued;
DROP USER MAPPING FOR CURRENT_USER SERVER mail;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
ALTER USER MAPPING FOR PUBLIC SERVER mail OPTIONS (ADD api_key 'mc_live_secret');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') > 0 AS queued;

-- options that the provider requires
ALTER SERVER mail OPTIONS (DROP tenant_id);
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
SELECT url FROM contactsync_preview('mail', '{"email": "jane@example.com"}');
ALTER SERVER mail OPTIONS (ADD tenant_id 'clx');
RESET ROLE;

-- values that were valid when they were set
SET contactsync.allow_http = on;
ALTER SERVER mail OPTIONS (ADD base_url 'http://api.example.com/');
SELECT url FROM contactsync_preview('mail', '{"email": "jane@example.com"}');
RESET contactsync.allow_http;
SELECT url FROM contactsync_preview('mail', '{"email": "jane@example.com"}');
ALTER SERVER mail OPTIONS (SET base_url 'http://localhost:8080//');
SELECT url FROM contactsync_preview('mail', '{"email": "jane@example.com"}');

-- servers of other roles
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER other FOREIGN DATA WRAPPER other;
SELECT url FROM contactsync_preview('other', '{"email": "jane@example.com"}');
CREATE ROLE regress_contactsync_guest;
SET ROLE regress_contactsync_guest;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
RESET ROLE;

-- a dump contains no secrets in objects that every role can read; the owner's are in the user mapping
SELECT srvname, srvoptions::text ~ 'secret' AS secret FROM pg_foreign_server ORDER BY 1;
SET ROLE regress_contactsync_guest;
SELECT srvname, umoptions FROM pg_user_mappings;
RESET ROLE;

DROP FOREIGN DATA WRAPPER other CASCADE;
DROP SERVER mail CASCADE;
DROP FUNCTION try;
DROP OWNED BY regress_contactsync_user;
DROP ROLE regress_contactsync_user, regress_contactsync_guest;
