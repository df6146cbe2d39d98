# Erasing a person: the provider's copy goes if the watch removes contacts, nobody is subscribed again by what is left here, a
# dump keeps what is remembered, and a role erases only its own data.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub sql { my ($query, $db) = @_; return $node->safe_psql($db // 'postgres', "SET client_min_messages = warning; $query"); }
sub contact { my ($email) = @_; return (grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'crm') })[0]; }
sub opt_in { my ($email) = @_; my $contact = contact($email); return !$contact ? 'none' : $contact->{optIn} ? 'in' : 'out'; }
sub wait_idle { return $node->safe_psql('postgres', q{CALL contactsync_wait('crm')}); }
sub at_provider { my ($id, $opt_in) = @_; return $sandbox->call('POST', 'mailingcore/contacts', { account => 'crm', contacts => [ { email => "c$id\@example.com", externalId => "$id", optIn => $opt_in } ] }); }

create_server($node, $sandbox, 'mailingcore', account => 'crm');
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, name text, opt_in bool);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "opt_in"}', on_delete => 'delete');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A', true FROM generate_series(1, 6) g;
});
wait_idle();
is(join(' ', map { opt_in("c$_\@example.com") } 1 .. 6), 'in in in in in in', 'all are subscribed');

# a row is deleted, and the person forgotten before delete_delay has passed
sql(q{DELETE FROM customers WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.departure}) or die 'timed out waiting for the row to be gone';
is(opt_in('c1@example.com'), 'in', 'the contact is not removed at once');
like(sql(q{SELECT string_agg(event, ' ' ORDER BY event) FROM contactsync_find('c1@example.com')}), qr/departed.*synced/, 'contactsync_find() shows that it is to be removed');
sql(q{SELECT contactsync_forget('c1@example.com')});
wait_idle();
is(opt_in('c1@example.com'), 'none', 'contactsync_forget() has it removed without delay');
is(sql(q{SELECT count(*) FROM contactsync_find('c1@example.com')}), '0', 'nothing is found then');
is(sql(q{SELECT count(*) FROM contactsync.departure}), '0', 'no departure is left');

# a person who opted out at the provider is forgotten while the row stays, and the row changes
at_provider(2, JSON::PP::false);
sql(q{UPDATE contactsync.contact SET synced_at = synced_at - interval '1 hour'; SELECT contactsync_pull('crm')});
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE upsert_key = '2'}), 't', 'the opt-out is known');
sql(q{SELECT contactsync_forget('c2@example.com')});
is(sql(q{SELECT concat_ws(' ', event, key, detail) FROM contactsync_find('c2@example.com')}), 'remaining 2', 'the person is forgotten, but for the key of the row');
is(sql(q{SELECT count(*) FROM contactsync.consent WHERE hash = contactsync.consent_hash('c2@example.com') AND state = 'o' AND opt_in_at IS NULL}), '1', 'that consent is closed is not');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.forgotten}) or die 'timed out waiting for the worker to forget';
sql(q{UPDATE customers SET name = 'B' WHERE id = 2});
wait_idle();
is(opt_in('c2@example.com'), 'out', 'a change of the row subscribes nobody again');
sql(q{SELECT contactsync_forget('c2@example.com'); UPDATE customers SET id = 102 WHERE id = 2});
wait_idle();
is(opt_in('c2@example.com'), 'out', 'nor does a new key');
sql(q{SELECT contactsync_unwatch('customers', 'crm');
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "opt_in"}', on_delete => 'delete');
	SELECT contactsync_forget('c2@example.com'); SELECT contactsync_import('customers', 'crm')});
wait_idle();
is(opt_in('c2@example.com'), 'out', 'nor does a new watch that imports all rows');

# a dump keeps it
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
sql(q{SELECT contactsync_forget('c2@example.com')});
my $kept = q{SELECT string_agg(format('%s %s', id, c.state), ' ' ORDER BY id) FROM generate_series(1, 6) id JOIN contactsync.consent c ON hash = contactsync.consent_hash(format('c%s@example.com', id))};
my $before = sql($kept);
like($before, qr/\b2 o\b/, 'what is remembered');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', 'restored', $dump ], 'pg_restore');
is(sql($kept, 'restored'), $before, 'is remembered in a restored database as well');

# without suppression
sql(q{SELECT contactsync_forget('c2@example.com', suppression => false)});
is(sql(q{SELECT count(*) FROM contactsync.consent WHERE hash = contactsync.consent_hash('c2@example.com')}), '0', 'suppression => false drops the hash');

# another role
sql(q{CREATE ROLE other LOGIN; SET SESSION AUTHORIZATION other; SELECT contactsync_forget('c3@example.com')});
is(sql(q{SET SESSION AUTHORIZATION other; SELECT count(*) FROM contactsync_find('c3@example.com')}), '0', 'another role finds nothing');
isnt(sql(q{SELECT count(*) FROM contactsync_find('c3@example.com')}), '0', 'and erases nothing');

$node->stop;
done_testing();
