-- Chinook: https://github.com/lerocha/chinook-database
--
-- The version whose names have capital letters: these are quoted, and inside JSON a double quote is written as \". The newer
-- version calls the table customer and the columns customer_id, email and so on; there, the quotes go.

ALTER TABLE "Customer" ADD COLUMN "Newsletter" boolean NOT NULL DEFAULT false;

-- Which mapping fits the columns?
SELECT field, expression, reason FROM contactsync_suggest('"Customer"', 'mailingcore');

-- What somebody has bought is in another table. A change there is noticed by the nightly reconciliation.
SELECT contactsync_watch('"Customer"', 'mailingcore',
    mapping => '{"email": "\"Email\"", "external_id": "\"CustomerId\"", "first_name": "\"FirstName\"", "last_name": "\"LastName\"",
                 "phone": "\"Phone\"", "opt_in": "\"Newsletter\"",
                 "attributes": {"company": "\"Company\"", "country": "\"Country\"",
                     "invoices": "(SELECT count(*) FROM \"Invoice\" i WHERE i.\"CustomerId\" = \"Customer\".\"CustomerId\")",
                     "spent": "(SELECT coalesce(sum(i.\"Total\"), 0) FROM \"Invoice\" i WHERE i.\"CustomerId\" = \"Customer\".\"CustomerId\")"}}',
    reconcile_every => '1 day', reconcile_at => '03:00');

-- jsonb_build_object() does without backslashes.
SELECT contactsync_watch('"Customer"', 'caramel',
    mapping => jsonb_build_object('email', '"Email"', 'first_name', '"FirstName"', 'last_name', '"LastName"', 'opt_in', '"Newsletter"'));
SELECT contactsync_watch('"Customer"', 'owlat',
    mapping => jsonb_build_object('email', '"Email"', 'first_name', '"FirstName"', 'last_name', '"LastName"', 'opt_in', '"Newsletter"'));
SELECT contactsync_watch('"Customer"', 'spotzee',
    mapping => jsonb_build_object('external_id', '"CustomerId"', 'email', '"Email"', 'opt_in', '"Newsletter"',
        'attributes', jsonb_build_object('first_name', '"FirstName"', 'country', '"Country"')));
SELECT contactsync_watch('"Customer"', 'campaignlark',
    mapping => jsonb_build_object('email', '"Email"', 'first_name', '"FirstName"', 'last_name', '"LastName"', 'opt_in', '"Newsletter"'));

-- Send who was there before. Nobody is subscribed by this, since nobody has said so.
SELECT contactsync_import('"Customer"', s, automations => 'paused') FROM unnest(ARRAY['caramel', 'owlat', 'campaignlark']) s;
SELECT contactsync_import('"Customer"', s) FROM unnest(ARRAY['mailingcore', 'spotzee']) s;

CALL contactsync_wait('mailingcore');
CALL contactsync_wait('caramel');
CALL contactsync_wait('owlat');
CALL contactsync_wait('spotzee');
CALL contactsync_wait('campaignlark');
SELECT server, source, state, synced, failures FROM contactsync.status;
