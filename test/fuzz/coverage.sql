-- What the targets of coverage.sh use. One statement per line, for a server in single-user mode.
CREATE EXTENSION contactsync
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', check_fields 'false')
CREATE SERVER campaignlark2 FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', check_fields 'false', new_contacts 'unsubscribed', drop_unknown_fields 'true', on_email_change 'unsubscribe')
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b')
CREATE SERVER caramel2 FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b', form_id 'f')
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't')
CREATE SERVER mailingcore2 FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't', on_unattributed_failure 'reject')
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat')
CREATE SERVER owlat2 FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', topic_id 't', on_email_change 'follow')
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee')
CREATE SERVER spotzee2 FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', subscription_id '7')
DO $$ DECLARE s record; BEGIN FOR s IN SELECT srvname FROM pg_foreign_server LOOP EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I OPTIONS (%I ''topsecret'')', s.srvname, CASE WHEN s.srvname LIKE 'caramel%' THEN 'access_token' ELSE 'api_key' END); END LOOP; END $$
CREATE TABLE customer (id integer PRIMARY KEY, email_address text, first_name varchar(100), locale text, newsletter boolean, confirmed_at timestamptz, tags text[], extra jsonb)
CREATE TABLE keyed (a text, b text, c varchar, email text, PRIMARY KEY (a, b, c))
CREATE FUNCTION fuzz(target text, VARIADIC arguments text[]) RETURNS integer STRICT LANGUAGE c AS 'contactsync', 'contactsync_fuzz'
