-- Where servers may connect to. That a name is judged by the address of the connection is in t/094_network.

SET client_min_messages = warning;
CREATE ROLE regress_net;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_net;
SET SESSION AUTHORIZATION regress_net;
CREATE SERVER net FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't', base_url 'https://api.example.com');
CREATE USER MAPPING FOR CURRENT_USER SERVER net OPTIONS (api_key 'secret');
RESET SESSION AUTHORIZATION;

-- return what becomes of a contact for a server at this host: its error, if there is one
CREATE FUNCTION reach(host text, option text DEFAULT 'base_url') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER SERVER net OPTIONS (%s %I %L)',
		CASE WHEN EXISTS (SELECT FROM pg_foreign_server, pg_options_to_table(srvoptions) o WHERE srvname = 'net' AND o.option_name = option) THEN 'SET' ELSE 'ADD' END,
		option, 'https://' || host);
	PERFORM contactsync_upsert('net', '{"email": "jane@example.com"}');
	RETURN 'allowed';
EXCEPTION WHEN insufficient_privilege THEN
	RETURN regexp_replace(SQLERRM, 'option "\w+" of server "net" has an address that is ', '');
END $$;
GRANT ALL ON SCHEMA public TO regress_net;
-- beside the setting of the test's server, which allows the loopback interface
SET contactsync.allowed_networks = '';

SET SESSION AUTHORIZATION regress_net;
SELECT host, reach(host) FROM (VALUES
	-- public
	('api.example.com'), ('1.1.1.1'), ('9.255.255.255'), ('11.0.0.0'), ('100.63.255.255'), ('100.128.0.0'), ('126.255.255.255'), ('128.0.0.0'),
	('169.253.255.255'), ('172.15.255.255'), ('172.32.0.0'), ('192.167.255.255'), ('198.17.255.255'), ('198.20.0.0'), ('223.255.255.255'),
	('[2606:4700::1]'), ('[::ffff:1.1.1.1]'), ('[64:ff9b::1.1.1.1]'),
	-- this machine, private, shared by carriers, link-local, the metadata services of clouds
	('127.0.0.1'), ('127.255.255.255'), ('[::1]'), ('10.0.0.1'), ('172.16.0.1'), ('172.31.255.255'), ('192.168.1.1'), ('[fc00::1]'), ('[fdff::1]'),
	('100.64.0.1'), ('100.127.255.255'), ('169.254.169.254'), ('[fe80::1]'), ('[fd00:ec2::254]'), ('168.63.129.16'), ('100.100.100.200'), ('192.0.0.192'),
	-- unspecified, multicast, broadcast, reserved, documentation, benchmarks, relays, site-local
	('0.0.0.0'), ('[::]'), ('0.1.2.3'), ('224.0.0.1'), ('239.255.255.255'), ('[ff02::1]'), ('255.255.255.255'), ('240.0.0.1'),
	('192.0.2.1'), ('198.51.100.1'), ('203.0.113.1'), ('[2001:db8::1]'), ('[3fff::1]'), ('198.18.0.1'), ('198.19.255.255'), ('192.88.99.1'), ('[fec0::1]'),
	-- IPv4 in other forms
	('[::ffff:127.0.0.1]'), ('[::ffff:7f00:1]'), ('[::ffff:10.1.2.3]'), ('[::127.0.0.1]'), ('[64:ff9b::127.0.0.1]'), ('[64:ff9b:1::1.1.1.1]'),
	('[2002:7f00:1::]'), ('[2001::1]'), ('[100::1]')) AS t (host);

-- the superuser's setting
RESET SESSION AUTHORIZATION;
SET contactsync.allowed_networks = '10.1.0.0/16, fd12::/16 127.0.0.1,::1';
SET SESSION AUTHORIZATION regress_net;
SELECT host, reach(host) FROM (VALUES
	('10.1.0.1'), ('10.1.255.255'), ('10.2.0.0'), ('10.0.255.255'), ('[::ffff:10.1.2.3]'), ('[fd12:ffff::1]'), ('[fd13::1]'), ('127.0.0.1'), ('127.0.0.2'), ('[::1]'), ('1.1.1.1')) AS t (host);
SET contactsync.allowed_networks = '0.0.0.0/0';
RESET SESSION AUTHORIZATION;
SET contactsync.allowed_networks = '::/0';
SET SESSION AUTHORIZATION regress_net;
SELECT host, reach(host) FROM (VALUES ('10.2.0.0'), ('[fe80::1]')) AS t (host);
RESET SESSION AUTHORIZATION;
SET contactsync.allowed_networks = '10.1.0.0/33';
SET contactsync.allowed_networks = '10.1.0.0/-1';
SET contactsync.allowed_networks = '10.1.0.0/';
SET contactsync.allowed_networks = '::1, 10.1.0.1/16';
SET contactsync.allowed_networks = 'fd00::/129';
SET contactsync.allowed_networks = 'example.com';
SET contactsync.allowed_networks = '10.1';
SHOW contactsync.allowed_networks;
SET contactsync.allowed_networks = ' 10.1.0.0/16,';

-- the error says what to type
\set VERBOSITY default
ALTER SERVER net OPTIONS (SET base_url 'https://127.0.0.1');
SET SESSION AUTHORIZATION regress_net;
SELECT contactsync_upsert('net', '{"email": "jane@example.com"}');
CREATE TABLE customers (id int PRIMARY KEY, email text);
SELECT contactsync_watch('customers', 'net', '{"email": "email"}');
RESET SESSION AUTHORIZATION;
SET contactsync.allowed_networks = '';
SET SESSION AUTHORIZATION regress_net;
SELECT contactsync_upsert('net', '{"email": "jane@example.com"}');
\set VERBOSITY terse

-- a proxy is under the same rule, and so is an address that it is asked to connect to
ALTER SERVER net OPTIONS (SET base_url 'https://api.example.com');
SELECT host, reach(host, 'proxy') FROM (VALUES ('127.0.0.1:3128'), ('10.0.0.1'), ('1.1.1.1:3128'), ('proxy.example.com')) AS t (host);
SELECT host, reach(host) FROM (VALUES ('127.0.0.1'), ('1.1.1.1')) AS t (host);

-- secrets do not leave the machine in plain text through a proxy either
RESET SESSION AUTHORIZATION;
SET contactsync.allowed_networks = '127.0.0.0/8';
\set VERBOSITY default
CREATE FUNCTION try(server text, VARIADIC options text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER SERVER %I OPTIONS (%s)', server, (SELECT string_agg(format('SET %I %L', options[i], options[i + 1]), ', ') FROM generate_series(1, cardinality(options), 2) AS i));
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLERRM;
END $$;
SELECT proxy, base_url, try('net', 'proxy', proxy, 'base_url', base_url)
FROM unnest('{none,http://proxy.example.com:3128,https://proxy.example.com,socks5h://10.0.0.1,http://localhost:3128,socks5h://127.0.0.1:9050,https://[::1]}'::text[]) AS proxy,
	unnest('{http://127.0.0.1:9,https://api.example.com}'::text[]) AS base_url;
SELECT try('net', 'proxy', 'http://proxy.example.com', 'base_url', 'https://api.example.com');
ALTER SERVER net OPTIONS (SET base_url 'http://127.0.0.1:9');
ALTER SERVER net OPTIONS (SET base_url 'http://localhost:9', SET proxy 'none');
ALTER SERVER net OPTIONS (SET proxy 'http://proxy.example.com');
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_1', proxy 'http://proxy.example.com', token_url 'http://127.0.0.1/token');
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_1', proxy 'http://proxy.example.com', gateway_url 'http://127.0.0.1/');
-- unless a superuser allows it
SET contactsync.allow_http = on;
ALTER SERVER net OPTIONS (SET proxy 'http://proxy.example.com');
SET SESSION AUTHORIZATION regress_net;
SELECT contactsync_upsert('net', '{"email": "jane@example.com"}') > 0 AS queued;
RESET SESSION AUTHORIZATION;
RESET contactsync.allow_http;
SET SESSION AUTHORIZATION regress_net;
SELECT contactsync_upsert('net', '{"email": "jane@example.com"}') > 0 AS queued;

-- only a superuser has these settings
SET contactsync.allow_http = on;
SET contactsync.allowed_networks = '0.0.0.0/0';
RESET SESSION AUTHORIZATION;

-- a server of a superuser connects to any address, whoever uses it
ALTER SERVER net OPTIONS (SET proxy 'none', SET base_url 'https://10.0.0.1');
SELECT srvowner::regrole FROM pg_foreign_server WHERE srvname = 'net';
ALTER SERVER net OWNER TO CURRENT_USER;
GRANT USAGE ON FOREIGN SERVER net TO regress_net;
SET SESSION AUTHORIZATION regress_net;
SELECT contactsync_upsert('net', '{"email": "jane@example.com"}') > 0 AS queued;
RESET SESSION AUTHORIZATION;

DROP OWNED BY regress_net CASCADE;
DROP ROLE regress_net;
