-- The commands of a user of contactsync, with the URLs of the simulators: :mailingcore and :campaignlark.
CREATE EXTENSION contactsync;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO shop;

SET ROLE shop;
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'mailingcore', base_url :'mailingcore', tenant_id 'clx_sandbox');
CREATE USER MAPPING FOR CURRENT_USER SERVER mailingcore OPTIONS (api_key 'mc_test_sandbox');
-- 10,000 contacts at once could start automations, so the guard would hold them; disable it, because a simulator mails nobody
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync
	OPTIONS (provider 'campaignlark', base_url :'campaignlark', on_email_change 'unsubscribe', bulk_guard '0');
CREATE USER MAPPING FOR CURRENT_USER SERVER campaignlark OPTIONS (api_key 'cl_sandbox');

SELECT contactsync_watch('shop.customers', 'mailingcore', on_delete => 'delete', mapping =>
	'{"email": "email", "external_id": "id", "first_name": "first_name", "last_name": "last_name", "locale": "language",
	  "opt_in": "newsletter", "attributes": {"plan": "plan", "points": "points"}}');
SELECT contactsync_watch('shop.customers', 'campaignlark', on_delete => 'unsubscribe', mapping =>
	'{"email": "email", "external_id": "id", "first_name": "first_name", "last_name": "last_name",
	  "opt_in": "newsletter", "attributes": {"plan": "plan", "points": "points"}}');
