# Uncommitted changes are not sent, and committed changes are, however late and by whichever session they commit.

use strict;
use warnings;

use ContactSync;
use Test::More;
use Time::HiRes qw(time);

my $sandbox = start_sandbox();
my $node = start_node('max_prepared_transactions' => 5);

create_server($node, $sandbox, 'mailingcore', account => 'crm', server => { pace => 1000, burst => 1000 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
});

# Wait until everything is delivered; return the ids that the provider received since the last call of this function.
my $seen = 0;

sub sent
{
	my @calls = @{ $sandbox->journal('mailingcore') };
	my %id = map { $_ => 1 } map { grep { /^\d+$/ } @{ $_->{keys} } } @calls[ $seen .. $#calls ];

	$seen = @calls;
	return join(',', sort { $a <=> $b } keys %id);
}

sub deliver
{
	$node->safe_psql('postgres', q{CALL contactsync_wait('crm')});
	return sent();
}

sub plan_of
{
	my ($id) = @_;

	return (map { $_->{attributes}{plan} } grep { $_->{externalId} == $id } @{ $sandbox->contacts('mailingcore', account => 'crm') })[0];
}

# rollback and savepoints
$node->safe_psql(
	'postgres', q{
	BEGIN; INSERT INTO customers VALUES (1, 'a@example.com'); ROLLBACK;
	BEGIN;
	INSERT INTO customers VALUES (2, 'b@example.com');
	SAVEPOINT one;
	INSERT INTO customers VALUES (3, 'c@example.com');
	SAVEPOINT two;
	INSERT INTO customers VALUES (4, 'd@example.com');
	RELEASE two;
	ROLLBACK TO one;
	INSERT INTO customers VALUES (5, 'e@example.com');
	SAVEPOINT three;
	INSERT INTO customers VALUES (6, 'f@example.com');
	RELEASE three;
	COMMIT;
	DO $$ BEGIN INSERT INTO customers VALUES (7, 'g@example.com'), (1 / (random() * 0)::int, 'h'); EXCEPTION WHEN division_by_zero THEN END $$;
	INSERT INTO customers VALUES (9, 'i@example.com');
});
is(deliver(), '2,5,6,9', 'only committed rows are sent');
$node->psql('postgres', q{INSERT INTO customers VALUES (10, 'j@example.com'), (9, 'twice@example.com')});
$node->psql('postgres', q{BEGIN; SELECT contactsync_upsert('crm', '{"email": "k@example.com", "external_id": "11"}'); ROLLBACK});
is(deliver(), '', 'a failed statement and a rolled back contactsync_upsert() send nothing');

# two-phase commit: another session commits, and wakes the worker
$node->safe_psql(
	'postgres', q{
	BEGIN; INSERT INTO customers VALUES (20, 'p20@example.com'); PREPARE TRANSACTION 'yes';
	BEGIN; INSERT INTO customers VALUES (21, 'p21@example.com'); PREPARE TRANSACTION 'no';
	BEGIN; INSERT INTO customers VALUES (22, 'p22@example.com'); PREPARE TRANSACTION 'later';
	INSERT INTO customers VALUES (23, 'p23@example.com');
});
is(deliver(), '23', 'a prepared transaction is not sent');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'no'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'yes'});
is(deliver(), '20', 'COMMIT PREPARED sends the row; ROLLBACK PREPARED does not');

# A worker that is not woken reads the queue 10 seconds after it last did. A machine under load may be as slow, but not each
# time: try again.
my $delay;
foreach my $id (40 .. 44)
{
	$node->safe_psql('postgres', qq{BEGIN; INSERT INTO customers VALUES ($id, 'p$id\@example.com'); PREPARE TRANSACTION 'waking'});
	my $before = time();
	$node->safe_psql('postgres', qq{UPDATE customers SET plan = 'before $id' WHERE id = 20});
	deliver();
	$node->safe_psql('postgres', q{COMMIT PREPARED 'waking'});
	$delay = $sandbox->wait_for_journal('mailingcore', sub { @_ > $seen && $_[-1] })->{wall} - $before;
	deliver();
	last if $delay < 5;
}
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id >= 40});
cmp_ok($delay, '<', 5, 'COMMIT PREPARED wakes the worker');
$node->stop;
$node->start;
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (24, 'p24@example.com')});
is(deliver(), '24', 'a transaction stays prepared across a restart');
$node->safe_psql('postgres', q{COMMIT PREPARED 'later'});
is(deliver(), '22', 'it is sent when it commits');

# a transaction that began before others, and ends after those were delivered
my $old = $node->background_psql('postgres');
my $reader = $node->background_psql('postgres');

$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT count(*) FROM customers');
$old->query_safe(q{BEGIN});
$old->query_safe(q{INSERT INTO customers VALUES (30, 'l30@example.com')});
$node->safe_psql('postgres', "INSERT INTO customers VALUES ($_, 'l$_\@example.com')") foreach 31 .. 35;
is(deliver(), '31,32,33,34,35', 'transactions that committed first are sent first');
$old->query_safe(q{UPDATE customers SET plan = 'late' WHERE id = 2});
$old->query_safe('COMMIT');
is(deliver(), '2,30', 'a transaction that commits late is not missed');

# many transactions, while the queue is larger than one window of the worker
$old->query_safe('BEGIN');
$old->query_safe(q{INSERT INTO customers VALUES (40, 'm40@example.com')});
$node->safe_psql(
	'postgres', q{
	BEGIN; INSERT INTO customers VALUES (41, 'm41@example.com'); PREPARE TRANSACTION 'forty-one';
	INSERT INTO customers SELECT g, format('m%s@example.com', g) FROM generate_series(100, 3099) g;
});
is($node->safe_psql('postgres', q{CALL contactsync_wait('crm'); SELECT backlog FROM contactsync.status}), '0', 'a load is delivered');
sent();
$old->query_safe('COMMIT');
$node->safe_psql('postgres', q{COMMIT PREPARED 'forty-one'});
is(deliver(), '40,41', 'the transactions from before the load follow');

# the old snapshot is still open, and has seen none of the changes
is($reader->query_safe('SELECT count(*) FROM customers'), '8', 'a snapshot that was held all the time has seen nothing');
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'x' WHERE id IN (2, 30)});
is(deliver(), '2,30', 'the snapshot does not delay delivery');
is(plan_of(2), 'x', 'the newest value is sent');
$reader->query_safe('COMMIT');
$_->quit foreach $old, $reader;

is($node->safe_psql('postgres', q{SELECT count(*) FROM customers}),
	$sandbox->count('mailingcore', account => 'crm')->{contacts}, 'the provider has all contacts, and no others');
# definitions, too: what a prepared transaction has changed is known when it is committed
sub reaches_provider
{
	my ($email) = @_;

	return eval { wait_for($email, sub { grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'crm') } }) } ? 1 : 0;
}

sub prepare_and_commit
{
	my ($sql, $dbname) = @_;

	$node->safe_psql($dbname // 'postgres', "BEGIN; $sql; PREPARE TRANSACTION 'definition'");
	return $node->safe_psql($dbname // 'postgres', q{COMMIT PREPARED 'definition'});
}

$node->safe_psql('postgres', q{CREATE TABLE orders (id int PRIMARY KEY, email text); INSERT INTO orders VALUES (1, 'o1@example.com')});
prepare_and_commit(q{SELECT contactsync_watch('orders', 'crm', '{"email": "email"}')});
$node->safe_psql('postgres', q{INSERT INTO orders VALUES (2, 'o2@example.com')});
ok(reaches_provider('o2@example.com'), 'a watch that was made in a prepared transaction delivers');
prepare_and_commit(q{SELECT contactsync_import('orders', 'crm')});
ok(reaches_provider('o1@example.com'), 'so does an import');
prepare_and_commit(q{SELECT contactsync_pause('orders', 'crm')});
$node->safe_psql('postgres', q{INSERT INTO orders VALUES (3, 'o3@example.com')});
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (50, 'p50@example.com')});
ok(reaches_provider('p50@example.com'), 'after a pause the others are sent');
is((grep { $_->{email} eq 'o3@example.com' } @{ $sandbox->contacts('mailingcore', account => 'crm') }), 0, '... and what was paused is not');
prepare_and_commit(q{ALTER SERVER crm OPTIONS (SET pace '999')});
ok($node->poll_query_until('postgres', q{SELECT pace = 999 FROM contactsync.status WHERE source = 'customers'::regclass}), 'an altered option counts');

# also while the worker waits to probe a halted server, which it does in an hour
$node->safe_psql('postgres', q{ALTER SYSTEM SET contactsync.probe_interval = '1h'; SELECT pg_reload_conf()});
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR CURRENT_USER SERVER crm OPTIONS (SET api_key 'mc_test_wrong')});
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (51, 'p51@example.com')});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status WHERE source = 'customers'::regclass}) or die 'timed out waiting for a halt';
prepare_and_commit(q{ALTER USER MAPPING FOR CURRENT_USER SERVER crm OPTIONS (SET api_key 'mc_test_crm')});
my $corrected = time();
ok(reaches_provider('p51@example.com'), 'a corrected key resumes a halted server');
cmp_ok(time() - $corrected, '<', 3600, '... before the next probe');

# an extension, after a worker has left because there was none
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = 'twophase'};
$node->safe_psql('postgres', 'CREATE DATABASE twophase');
$node->safe_psql('twophase', 'CREATE EXTENSION contactsync');
$node->poll_query_until('postgres', "$workers AND state = 'idle'", 1) or die 'timed out waiting for a worker';
$node->safe_psql('twophase', 'DROP EXTENSION contactsync');
$node->poll_query_until('postgres', $workers, 0) or die 'timed out waiting for the worker to leave';
prepare_and_commit('CREATE EXTENSION contactsync', 'twophase');
ok($node->poll_query_until('postgres', $workers, 1),
	'a database has a worker after CREATE EXTENSION in a prepared transaction');

$node->stop;
done_testing();
