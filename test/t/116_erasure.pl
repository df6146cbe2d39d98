# contactsync_forget() as a plain role: a deletion that is only queued still reaches the provider; a removal that the provider
# refuses is a failure, which can be retried or given up; the hash is dropped at accounts whose server is dropped as well.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub admin { return $node->safe_psql('postgres', $_[0]); }
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]", extra_params => [ '-U', 'shop' ]); }
sub at_provider { my ($provider, $account, $email) = @_; return scalar grep { ($_->{email} // $_->{email_address}) eq $email } @{ $sandbox->contacts($provider, account => $account) }; }

# Return everything that mentions a person, in all tables.
sub mentions
{
	my ($what) = @_;

	return join ' ', grep { admin("SELECT count(*) FROM contactsync.$_ t WHERE t::text LIKE '%$what%'") } split /\n/,
	  admin(q{SELECT relname FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r' ORDER BY 1});
}
sub wait_for_none { my ($table) = @_; $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM contactsync.$table") or die "timed out waiting for $table to be empty"; return; }
sub refuse { my ($provider, $account, $method) = @_; $sandbox->fault($provider, { match => { account => $account, method => $method }, times => undef, action => { status => 422 } }); return; }
sub requests { my ($account) = @_; return $sandbox->count('mailingcore', account => $account)->{requests}; }

create_server($node, $sandbox, 'mailingcore', account => 'crm', role => 'shop');
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "opt_in": "opt_in"}', on_delete => 'delete', delete_delay => '1 h');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), true FROM generate_series(1, 12) g;
	CALL contactsync_wait('crm')});

# ---------- a deletion that is only queued ----------

sql(q{SELECT contactsync_pause('crm'); DELETE FROM customers WHERE id = 1});
is(sql(q{SELECT count(*) FROM contactsync.changes WHERE key = '1'}), '1', 'the deletion is queued');
sql(q{SELECT contactsync_forget('c1@example.com'); SELECT contactsync_resume('crm'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c1@example.com'), 0, 'a deletion that was only queued removes the contact');
wait_for_none('forgotten');
is(mentions('c1@example'), '', 'nothing mentions the person then');

# by the key, and in the transaction that deletes the row
sql(q{BEGIN; DELETE FROM customers WHERE id = 2; SELECT contactsync_forget('customers', 'crm', 2); COMMIT; CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c2@example.com'), 0, 'so does one of the same transaction, by its key');
sql(q{BEGIN; DELETE FROM customers WHERE id = 3; SELECT contactsync_forget('c3@example.com'); COMMIT; CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c3@example.com'), 0, '... or by the address');

# what becomes of the watch afterwards does not matter
sql(q{SELECT contactsync_pause('crm'); DELETE FROM customers WHERE id = 4; SELECT contactsync_forget('c4@example.com');
	SELECT contactsync_alter_watch('customers', 'crm', on_delete => 'ignore'); SELECT contactsync_resume('crm'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c4@example.com'), 0, 'it is removed although the watch keeps contacts by now');
sql(q{DELETE FROM customers WHERE id = 5; SELECT contactsync_forget('c5@example.com'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c5@example.com'), 1, 'on_delete ignore removes nothing');
sql(q{SELECT contactsync_alter_watch('customers', 'crm', on_delete => 'delete')});

# a row that is somebody else by now is not lost
sql(q{SELECT contactsync_pause('crm'); UPDATE customers SET email = 'other@example.com' WHERE id = 6;
	SELECT contactsync_forget('c6@example.com'); SELECT contactsync_resume('crm'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'other@example.com'), 1, 'a queued change of a row that is another person now is sent');

# a row that exists stays where it is
my (undef, undef, $notice) = $node->psql('postgres', q{SELECT contactsync_forget('c7@example.com')}, extra_params => [ '-U', 'shop' ]);
like($notice, qr/NOTICE: +row "7" of table "customers" still exists and will be sent again when it changes\nHINT: .*Delete the rows of a person before/, 'a NOTICE says that a row still exists');
sql(q{CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c7@example.com'), 1, 'its contact is not removed');
(undef, undef, $notice) = $node->psql('postgres', q{BEGIN; ALTER TABLE customers DROP COLUMN opt_in; SELECT contactsync_forget('c9@example.com'); ROLLBACK}, extra_params => [ '-U', 'shop' ]);
like($notice, qr/NOTICE: +row "9" of table "customers" cannot be read, so its contact is not removed at the provider/, 'another NOTICE says that a row cannot be read');

# ---------- a removal that the provider refuses ----------

refuse('mailingcore', 'crm', 'DELETE');
sql(q{DELETE FROM customers WHERE id = 8; SELECT contactsync_forget('c8@example.com'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c8@example.com'), 1, 'the removal is refused');
is(sql(q{SELECT source, key, upsert_key, reason FROM contactsync.failures}), 'customers|8|8|rejected', 'that is a failure');
is(sql(q{SELECT failures FROM contactsync.status}), '1', '... which status counts');
like(sql(q{SELECT string_agg(event, ' ' ORDER BY event) FROM contactsync_find('c8@example.com')}), qr/deleting departed failed/, 'contactsync_find() shows it');
is(admin(q{SELECT claimed, opted_out, held FROM contactsync.contact WHERE upsert_key = '8'}), 'f|f|f', 'nothing is kept of consent in clear');
my $requests = requests('crm');
$node->stop;
$node->start;
sql(q{UPDATE customers SET email = 'new9@example.com' WHERE id = 9; CALL contactsync_wait('crm')});
is(requests('crm'), $requests + 1, 'it is not tried again by itself, not even after a restart');
is(sql(q{SELECT contactsync_retry('crm')}), '1', 'contactsync_retry() counts it');
sql(q{CALL contactsync_wait('crm')});
is(sql(q{SELECT key, attempts FROM contactsync.failures}), '8|2', 'it is refused again');
$sandbox->clear_faults('mailingcore', account => 'crm');
sql(q{SELECT contactsync_retry(ARRAY(SELECT id FROM contactsync.failures)); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c8@example.com'), 0, 'contactsync_retry() removes the contact');
is(sql(q{SELECT count(*) FROM contactsync.failures}), '0', 'the failure is over');
wait_for_none('forgotten');
is(mentions('c8@example') . admin(q{SELECT count(*) FROM contactsync.contact WHERE upsert_key = '8'}), '0', 'and nothing is left of the person');
is(admin(q{SELECT state FROM contactsync.consent WHERE hash = contactsync.consent_hash('c8@example.com')}), 'o', 'but that consent is closed');

# contactsync_forget() tries it again, too; giving up erases it
refuse('mailingcore', 'crm', 'DELETE');
sql(q{DELETE FROM customers WHERE id IN (10, 11); SELECT contactsync_forget('c10@example.com'); SELECT contactsync_forget('c11@example.com'); CALL contactsync_wait('crm')});
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM contactsync.failures}), '10 11', 'two removals are refused');
$sandbox->clear_faults('mailingcore', account => 'crm');
sql(q{SELECT contactsync_forget('c10@example.com'); CALL contactsync_wait('crm')});
is(at_provider('mailingcore', 'crm', 'c10@example.com'), 0, 'contactsync_forget() tries it once more');
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM contactsync.failures}), '11', 'its failure is over');
is(sql(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))}), '1', 'the other one is given up');
wait_for_none('forgotten');
is(mentions('c11@example') . sql(q{SELECT count(*) FROM contactsync.failures}) . admin(q{SELECT count(*) FROM contactsync.departure}), '00', 'and nothing is left of the person');

# the end of the watch does not end it
refuse('mailingcore', 'crm', 'DELETE');
sql(q{DELETE FROM customers WHERE id = 12; SELECT contactsync_forget('c12@example.com'); CALL contactsync_wait('crm')});
$sandbox->clear_faults('mailingcore', account => 'crm');
sql(q{SELECT contactsync_unwatch('customers', 'crm'); CALL contactsync_wait('crm')});
wait_for_none('departure');
is(at_provider('mailingcore', 'crm', 'c12@example.com'), 0, 'the contact is removed although its watch was dropped');
is(mentions('c12@example'), '', 'and nothing is left of the person');

# a provider that finds contacts by their address: the log does not name the person either
create_server($node, $sandbox, 'owlat', account => 'erasure', role => 'shop');
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('people', 'erasure', '{"email": "email"}', on_delete => 'delete');
	INSERT INTO people VALUES (1, 'o1@example.com'), (2, 'o2@example.com');
	CALL contactsync_wait('erasure')});
$sandbox->fault('owlat', { match => { account => 'erasure', method => 'DELETE' }, times => 1, action => { status => 422, body => '{"error": {"code": "nope", "message": "o1@example.com stays"}}' } });
sql(q{DELETE FROM people WHERE id = 1; SELECT contactsync_forget('o1@example.com'); CALL contactsync_wait('erasure')});
like(sql(q{SELECT message FROM contactsync.failures}), qr/o1\@example\.com stays/, 'the failure has the message of the provider');
sql(q{SELECT contactsync_retry('erasure'); CALL contactsync_wait('erasure')});
is(at_provider('owlat', 'erasure', 'o1@example.com'), 0, 'the contact is removed');
wait_for_none('forgotten');
is(mentions('o1@example') . mentions('o1\%40example'), '', 'no log names the person');

# ---------- a row whose address another contact has ----------

create_server($node, $sandbox, 'mailingcore', account => 'shared', role => 'shop');
sql(q{
	CREATE TABLE accounts (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('accounts', 'shared', '{"email": "email", "external_id": "id"}', on_delete => 'delete', delete_delay => '0');
	INSERT INTO accounts VALUES (1, 's1@example.com'), (2, 's2@example.com');
	CALL contactsync_wait('shared');
	UPDATE accounts SET email = 's1@example.com' WHERE id = 2;
	CALL contactsync_wait('shared')});
is(sql(q{SELECT key, reason FROM contactsync.failures WHERE server = 'shared'}), '2|conflict', 'a row has the address of another contact');
my $hash = admin(q{SELECT conflict FROM contactsync.failure WHERE conflict IS NOT NULL});
is($hash, admin(q{SELECT hashtextextended('s1@example.com', 0)}), 'of which the failure has a hash');
is(sql(q{SELECT string_agg(key, ' ') FROM contactsync_find('s1@example.com') WHERE event = 'failed'}), '2', 'the failure is found by the address');
is(sql(q{SELECT count(*) FROM contactsync_find('s1@example.com') WHERE detail ? 'conflict'}), '0', 'without the hash');
sql(q{SELECT contactsync_forget('s1@example.com')});
wait_for_none('forgotten');
is(mentions('s1@example') . mentions($hash), '', 'it is forgotten by it, and nothing has the hash any more');
sql(q{DELETE FROM accounts; CALL contactsync_wait('shared')});

# ---------- suppression => false ----------

sql(q{DELETE FROM people WHERE id = 2; SELECT contactsync_unwatch('people', 'erasure'); DROP SERVER erasure CASCADE});
create_server($node, $sandbox, 'mailingcore', account => 'other', role => 'shop');
sql(q{
	CREATE TABLE members (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('members', 'other', '{"email": "email", "external_id": "id", "opt_in": "opt_in"}');
	INSERT INTO members VALUES (1, 'm1@example.com', true), (2, 'm2@example.com', true);
	CALL contactsync_wait('other');
	SELECT contactsync_unwatch('members', 'other'); DROP SERVER other CASCADE});
my $remembered = q{SELECT count(*) FROM contactsync.consent WHERE hash IN (contactsync.consent_hash('m1@example.com'), contactsync.consent_hash('m2@example.com'))};
is(admin($remembered), '2', 'what was claimed outlives its server');
admin(q{CREATE ROLE stranger LOGIN});
$node->safe_psql('postgres', q{SELECT contactsync_forget('m1@example.com', suppression => false)}, extra_params => [ '-U', 'stranger' ]);
is(admin($remembered), '2', 'another role drops nothing');
sql(q{SELECT contactsync_forget('m1@example.com', suppression => false)});
is(admin($remembered), '1', 'suppression => false drops the hash at an account whose server was dropped');
sql(q{SELECT contactsync_forget('m2@example.com')});
is(admin(q{SELECT state, opt_in_at IS NULL FROM contactsync.consent WHERE hash = contactsync.consent_hash('m2@example.com')}), 'o|t', 'with suppression it says that consent is closed, there as well');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log contains no crash');
done_testing();
