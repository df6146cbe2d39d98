-- Pagila: https://github.com/devrimgunduz/pagila
--
-- customer.activebool says who is still a customer, and nothing of mail. So consent gets a column of its own, false for those
-- who are there already; your application sets it when somebody subscribes.

ALTER TABLE customer ADD COLUMN newsletter boolean NOT NULL DEFAULT false;

-- What would be sent? Nothing is stored by this.
SELECT key, outcome, message, body
FROM contactsync_try('customer', 'mailingcore', contactsync_suggest_mapping('customer', 'mailingcore', opt_in => 'newsletter'));

-- Where somebody lives is in other tables. A change of them is noticed by the nightly reconciliation.
SELECT contactsync_watch('customer', 'mailingcore',
    mapping => '{"email": "email", "external_id": "customer_id", "first_name": "initcap(first_name)", "last_name": "initcap(last_name)",
                 "opt_in": "newsletter",
                 "attributes": {"store": "store_id", "customerSince": "create_date",
                     "city": "(SELECT city.city FROM address JOIN city USING (city_id) WHERE address.address_id = customer.address_id)",
                     "country": "(SELECT country FROM address JOIN city USING (city_id) JOIN country USING (country_id) WHERE address.address_id = customer.address_id)"}}',
    filter => 'activebool', on_delete => 'unsubscribe', reconcile_every => '1 day', reconcile_at => '03:00');

-- The others have fewer fields for people.
SELECT contactsync_watch('customer', 'caramel',
    mapping => '{"email": "email", "first_name": "initcap(first_name)", "last_name": "initcap(last_name)", "opt_in": "newsletter"}',
    filter => 'activebool');
SELECT contactsync_watch('customer', 'owlat',
    mapping => '{"email": "email", "first_name": "initcap(first_name)", "last_name": "initcap(last_name)", "opt_in": "newsletter"}',
    filter => 'activebool', on_delete => 'unsubscribe');
SELECT contactsync_watch('customer', 'spotzee',
    mapping => '{"external_id": "customer_id", "email": "email", "opt_in": "newsletter",
                 "attributes": {"first_name": "initcap(first_name)", "last_name": "initcap(last_name)", "store": "store_id"}}',
    filter => 'activebool');
SELECT contactsync_watch('customer', 'campaignlark',
    mapping => '{"email": "email", "first_name": "initcap(first_name)", "last_name": "initcap(last_name)", "opt_in": "newsletter"}',
    filter => 'activebool', on_delete => 'unsubscribe');

-- Send who was there before. Nobody is subscribed by this, since nobody has said so.
SELECT contactsync_import('customer', s, automations => 'paused') FROM unnest(ARRAY['caramel', 'owlat', 'campaignlark']) s;
SELECT contactsync_import('customer', s) FROM unnest(ARRAY['mailingcore', 'spotzee']) s;

CALL contactsync_wait('mailingcore');
CALL contactsync_wait('caramel');
CALL contactsync_wait('owlat');
CALL contactsync_wait('spotzee');
CALL contactsync_wait('campaignlark');
SELECT server, source, state, synced, failures FROM contactsync.status;
