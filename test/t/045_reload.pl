# Calls in flight survive a change of definitions: of what has not changed nothing is repeated, and of what has changed an
# answer that arrives is an answer.

use strict;
use warnings;

use ContactSync;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my %options = (pace => 1000, burst => 1000, concurrency => 16, new_contacts => 'unsubscribed');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql"); }

# Requests that name the address, as "POST /contacts".
sub requests
{
	my ($provider, $email, $account) = @_;

	return join(', ',
		map { $_->{method} . ' ' . $_->{path} =~ s{.*(?=/)}{}r }
		grep { grep { $_ eq $email } @{ $_->{keys} } } @{ $sandbox->journal($provider, account => $account) });
}

sub names { my ($provider, $account) = @_; return join(',', sort map { $_->{email_address} // $_->{email} } @{ $sandbox->contacts($provider, account => $account) }); }

# Have all calls of a provider wait until clear_faults().
sub stall { my ($provider, $account) = @_; $sandbox->fault($provider, { times => undef, match => { account => $account, method => 'POST' }, action => { stall => \1 } }); return; }

sub wait_for_flight
{
	my ($provider, $account, @emails) = @_;

	$sandbox->wait_for_journal($provider,
		sub { my @flying = grep { $_->{in_flight} } @_; @emails == grep { my $email = $_; grep { grep { $_ eq $email } @{ $_->{keys} } } @flying } @emails },
		account => $account);
	return;
}

create_server($node, $sandbox, 'campaignlark', account => 'slow', server => \%options);
create_server($node, $sandbox, 'campaignlark', account => 'other', server => \%options);
sql(q{
	CREATE ROLE clerk;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, topic text);
	CREATE TABLE orders (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
	CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
	CREATE TABLE visitors (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'slow', '{"email": "email", "first_name": "first_name"}');
	SELECT contactsync_watch('orders', 'other', '{"email": "email"}');
});

# Change a definition, and wait until the worker has sent something since, for which it reads definitions first.
my $proof = 0;

sub change_definition
{
	my ($sql) = @_;

	sql($sql);
	$proof++;
	sql("SELECT contactsync_upsert('other', '{\"email\": \"proof$proof\@example.com\"}')");
	wait_for('a later contact to arrive', sub { names('campaignlark', 'other') =~ /\bproof$proof@/ });
	return;
}

#
# What has not changed
#

my @unrelated = (
	q{SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')},
	q{ALTER SERVER other OPTIONS (ADD max_retries '3')},
	q{INSERT INTO visitors VALUES (1, 'v1@example.com'); SELECT contactsync_import('visitors', 'other')},
	q{CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200)},
	q{SELECT contactsync_forget('nobody@example.com')},
	q{GRANT USAGE ON FOREIGN SERVER other TO clerk; CREATE USER MAPPING FOR clerk SERVER other OPTIONS (api_key 'cl_other');
	  SET ROLE clerk; SELECT contactsync_upsert('other', '{"email": "clerk@example.com"}')},
	q{SELECT contactsync_forget('v1@example.com')},
	q{SELECT contactsync_unwatch('visitors', 'other')},
	q{ALTER TABLE orders ADD COLUMN note text},
	q{SELECT contactsync_pause('other'); SELECT contactsync_resume('other')},
	q{SELECT contactsync_mark_stale('other')});

stall('campaignlark', 'slow');
sql(q{INSERT INTO customers SELECT i, format('c%s@example.com', i), 'A' FROM generate_series(1, 5) i});
my @emails = map { "c$_\@example.com" } 1 .. 5;
wait_for_flight('campaignlark', 'slow', @emails);
change_definition($_) foreach @unrelated;
is(scalar(grep { $_->{in_flight} } @{ $sandbox->journal('campaignlark', account => 'slow') }), 5, 'all calls are still in flight');
sql(q{UPDATE customers SET first_name = 'B' WHERE id = 1});
$sandbox->clear_faults('campaignlark');
sql(q{CALL contactsync_wait('slow')});
is(names('campaignlark', 'slow'), join(',', @emails), 'all contacts arrive');
is(requests('campaignlark', $_, 'slow'), join(', ', ('POST /upsert') x ($_ eq 'c1@example.com' ? 2 : 1)), "$_ is requested once for each of its values")
  foreach @emails;

# partitions of the watched table itself, and a dump of all of it that is restored beside it, and in part over it
sql(q{
	CREATE TABLE members (id int PRIMARY KEY, email text, first_name text) PARTITION BY RANGE (id);
	CREATE TABLE members_1 PARTITION OF members FOR VALUES FROM (0) TO (100);
	SELECT contactsync_watch('members', 'slow', '{"email": "email", "first_name": "first_name"}')});
stall('campaignlark', 'slow');
sql(q{INSERT INTO members SELECT i, format('m%s@example.com', i), 'A' FROM generate_series(1, 3) i});
my @members = map { "m$_\@example.com" } 1 .. 3;
wait_for_flight('campaignlark', 'slow', @members);
change_definition($_) foreach (
	q{CREATE TABLE members_2 PARTITION OF members FOR VALUES FROM (100) TO (200)},
	q{CREATE TABLE members_3 (LIKE members INCLUDING ALL); ALTER TABLE members ATTACH PARTITION members_3 FOR VALUES FROM (200) TO (300)},
	q{ALTER TABLE members_2 RENAME TO members_two},
	q{ALTER TABLE members DETACH PARTITION members_3},
	q{DROP TABLE members_3},
	q{ALTER TABLE members ADD COLUMN note text},
	q{ALTER TABLE members DETACH PARTITION members_1; ALTER TABLE members ATTACH PARTITION members_1 FOR VALUES FROM (0) TO (100)});
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'postgres' ], 'a dump is made while calls are in flight');
$node->command_ok([ 'createdb', 'copy' ], 'it gets a database');
$node->command_ok([ 'pg_restore', '-d', 'copy', $dump ], 'and is restored there');
sql('DROP TABLE visitors');
$node->command_ok([ 'pg_restore', '-d', 'postgres', '-t', 'visitors', $dump ], 'a table of it is restored in the database itself');
change_definition('ALTER TABLE visitors ADD PRIMARY KEY (id)');
is(scalar(grep { $_->{in_flight} } @{ $sandbox->journal('campaignlark', account => 'slow') }), 3, 'all calls are still in flight');
sql(q{INSERT INTO members VALUES (150, 'm150@example.com', 'A'); UPDATE members SET first_name = 'B' WHERE id = 1});
$sandbox->clear_faults('campaignlark');
sql(q{CALL contactsync_wait('slow')});
is(requests('campaignlark', $_, 'slow'), join(', ', ('POST /upsert') x ($_ eq 'm1@example.com' ? 2 : 1)), "$_ is requested once for each of its values")
  foreach @members, 'm150@example.com';
is($node->safe_psql('copy', q{SELECT string_agg(DISTINCT state, ',') FROM contactsync.status WHERE source IS NOT NULL}), 'paused', 'the restored database sends nothing');
$node->safe_psql('postgres', 'DROP DATABASE copy WITH (FORCE)');
sql(q{SELECT contactsync_unwatch('members', 'slow')});

#
# What has changed: an answer that arrives is an answer
#

# Insert a row whose call waits.
sub start_call
{
	my ($id) = @_;

	stall('campaignlark', 'slow');
	sql("INSERT INTO customers VALUES ($id, 'c$id\@example.com', 'A')");
	wait_for_flight('campaignlark', 'slow', "c$id\@example.com");
	return;
}

sub answer
{
	$sandbox->clear_faults('campaignlark');
	sql(q{CALL contactsync_wait('slow')});
	return;
}

start_call(10);
change_definition(q{ALTER SERVER slow OPTIONS (SET concurrency '15')});
answer();
is(requests('campaignlark', 'c10@example.com', 'slow'), 'POST /upsert', 'a call that started under other options of its server is not repeated');
is(sql(q{SELECT count(*) FROM contactsync.contact WHERE upsert_key = 'c10@example.com' AND synced_at IS NOT NULL}), '1', 'its outcome is stored');

start_call(11);
change_definition(q{SELECT contactsync_alter_watch('customers', 'slow', mapping => '{"email": "email", "first_name": "upper(first_name)"}')});
answer();
is(requests('campaignlark', 'c11@example.com', 'slow'), 'POST /upsert', 'nor is one that started under another mapping of its watch');
sql(q{UPDATE customers SET first_name = 'b' WHERE id = 11; CALL contactsync_wait('slow')});
is((grep { $_->{email_address} eq 'c11@example.com' } @{ $sandbox->contacts('campaignlark', account => 'slow') })[0]{fields}{first_name},
	'B', 'the new mapping is used from then on');

# the old key is refused while a new one has taken its place
my ($grant) = values %{ $sandbox->call('GET', 'campaignlark/config', undef, account => 'slow')->{keys} };
$sandbox->config('campaignlark', { account => 'slow', keys => { cl_slow2 => $grant } });
$sandbox->fault('campaignlark', { match => { account => 'slow', method => 'POST' }, action => { stall => \1, status => 401 } });
sql(q{INSERT INTO customers VALUES (12, 'c12@example.com', 'A')});
wait_for_flight('campaignlark', 'slow', 'c12@example.com');
change_definition(q{ALTER USER MAPPING FOR CURRENT_USER SERVER slow OPTIONS (SET api_key 'cl_slow2')});
answer();
is(requests('campaignlark', 'c12@example.com', 'slow'), 'POST /upsert, POST /upsert', 'a contact that was refused with the old key is sent with the new one');
is(sql(q{SELECT count(*) FROM contactsync.call WHERE verdict = 'halt'}), '1', 'the refusal is logged');
is(sql(q{SELECT count(*) FROM contactsync.status WHERE server = 'slow' AND state = 'halted'}), '0', 'it does not halt the server');

# a watch that is dropped
start_call(13);
change_definition(q{SELECT contactsync_unwatch('customers', 'slow')});
$sandbox->clear_faults('campaignlark');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contact WHERE upsert_key = 'c13@example.com' AND synced_at IS NOT NULL})
  or die 'timed out waiting for the outcome';
pass('what became of a contact whose watch was dropped is remembered');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.source_row r WHERE NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = r.watch)})
  or die 'timed out waiting for the rows to go';
pass('of its row nothing is');

# contactsync_forget(): nothing is stored of what was in flight
sql(q{SELECT contactsync_watch('customers', 'slow', '{"email": "email", "first_name": "first_name"}')});
start_call(14);
sql(q{DELETE FROM customers WHERE id = 14});
change_definition(q{SELECT contactsync_forget('c14@example.com')});
answer();
is(sql(q{SELECT count(*) FROM contactsync_find('c14@example.com')}), '0', 'nothing is stored of a person who was forgotten while a call was under way');
is(requests('campaignlark', 'c14@example.com', 'slow'), 'POST /upsert', 'the call is not repeated');
is(sql(q{SELECT count(*) FROM contactsync.forgotten}), '0', 'nothing is left to forget');

# a watch that is made again while a call of its row is under way, and one that ends whose row is not the only one of its contact:
# the contact has what its rows say in the end, also if the worker ended meanwhile
sql(q{CREATE TABLE guests (id int PRIMARY KEY, email text, first_name text);
	SELECT contactsync_watch('guests', 'slow', '{"email": "email", "first_name": "first_name"}')});

sub name_of
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark', account => 'slow') };

	return $contact->{fields}{first_name};
}

foreach my $ends (0, 1)
{
	my ($alone, $shared) = map { "$_$ends\@example.com" } qw(alone shared);

	sql("INSERT INTO customers VALUES (2$ends, '$alone', 'A'), (3$ends, '$shared', 'A'); CALL contactsync_wait('slow')");
	sql("INSERT INTO guests VALUES (3$ends, '$shared', 'B'); CALL contactsync_wait('slow')");
	$sandbox->fault('campaignlark', { times => undef, match => { account => 'slow', method => 'POST' }, effect => 'after', action => { stall => \1 } });
	sql("UPDATE customers SET first_name = 'X' WHERE id IN (2$ends, 3$ends)");
	wait_for('the calls', sub { name_of($alone) eq 'X' && name_of($shared) eq 'X' });
	sql("UPDATE customers SET first_name = 'A' WHERE id = 2$ends; DELETE FROM customers WHERE id = 3$ends");
	if ($ends)
	{
		sql(q{SELECT contactsync_pause('slow')});
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
	}
	sql(q{SELECT contactsync_unwatch('customers', 'slow'), contactsync_watch('customers', 'slow', '{"email": "email", "first_name": "first_name"}');
		SELECT contactsync_reconcile('customers', 'slow', automations => 'accepted')});
	sql(q{SELECT contactsync_resume('slow')}) if $ends;
	answer();
	is(name_of($alone), 'A', 'the row of a watch that is made again is sent, since a call for it was under way' . ($ends ? ', also when the worker ended' : ''));
	is(name_of($shared), 'B', '... and another row speaks for a contact that the row of a watch has left');
}

# a role that may not use the server any more, and a server that is dropped: the calls are aborted
sql(q{GRANT USAGE ON FOREIGN SERVER slow TO clerk; CREATE USER MAPPING FOR clerk SERVER slow OPTIONS (api_key 'cl_slow2')});
stall('campaignlark', 'slow');
sql(q{SET ROLE clerk; SELECT contactsync_upsert('slow', '{"email": "denied@example.com"}')});
wait_for_flight('campaignlark', 'slow', 'denied@example.com');
change_definition(q{REVOKE USAGE ON FOREIGN SERVER slow FROM clerk});
$node->poll_query_until('postgres', 'SELECT sum(in_flight) = 0 FROM contactsync.runtime()') or die 'timed out waiting for the end of the call';
$sandbox->clear_faults('campaignlark');
unlike(names('campaignlark', 'slow'), qr/\bdenied@/, 'a call of a role that lost its right is aborted');
change_definition(q{GRANT USAGE ON FOREIGN SERVER slow TO clerk});
wait_for('the contact to arrive', sub { names('campaignlark', 'slow') =~ /\bdenied@/ });
pass('it is made when the role has its right again');

stall('campaignlark', 'slow');
sql(q{INSERT INTO customers VALUES (15, 'c15@example.com', 'A')});
wait_for_flight('campaignlark', 'slow', 'c15@example.com');
my $worker = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
change_definition(q{DROP SERVER slow CASCADE});
$node->poll_query_until('postgres', 'SELECT sum(in_flight) = 0 FROM contactsync.runtime()') or die 'timed out waiting for the end of the call';
$sandbox->clear_faults('campaignlark');
unlike(names('campaignlark', 'slow'), qr/\bc15@/, 'so is a call to a server that was dropped');
is($node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}), $worker, 'the worker went on all the time');

# a watch that has not changed is not prepared again, and one whose table has changed is: this function runs when that is done
sql(q{
	CREATE FUNCTION planned(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE LOG 'the watch is planned'; RETURN $1; END $$;
	CREATE TABLE calm (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('calm', 'other', '{"email": "email", "first_name": "planned(''x'')"}');
	INSERT INTO calm VALUES (1, 'calm@example.com');
	CALL contactsync_wait('other');
});
sub plans { return scalar(() = slurp_file($node->logfile) =~ /the watch is planned/g); }
change_definition(q{SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')});
my $plans = plans();
cmp_ok($plans, '>', 0, 'a watch is planned');
change_definition($_)
  foreach q{SELECT contactsync_unwatch('visitors', 'other')}, q{SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')},
  q{SELECT contactsync_alter_watch('visitors', 'other', on_delete => 'unsubscribe')}, q{SELECT contactsync_unwatch('visitors', 'other')};
is(plans(), $plans, 'and not again when others change');
change_definition(q{ALTER TABLE calm ADD COLUMN note text; SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')});
cmp_ok(plans(), '>', $plans, 'but when its table does');
change_definition(q{SELECT contactsync_unwatch('visitors', 'other'); SELECT contactsync_unwatch('calm', 'other')});

# the worker's memory does not grow with the number of changes
sub worker_memory
{
	my $before = -s $node->logfile;

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($worker)");
	my ($bytes) = wait_for('the memory of the worker in the log',
		sub { slurp_file($node->logfile, $before) =~ /Grand total: \d+ bytes in \d+ blocks; \d+ free \(\d+ chunks\); (\d+) used/ ? $1 : undef });
	return $bytes;
}

sub change_often
{
	my ($n) = @_;

	$node->safe_psql('postgres', join(';', map { "ALTER SERVER other OPTIONS (SET max_retries '" . ($_ % 5) . "')" } 1 .. 10)) foreach 1 .. $n / 10;
	change_definition(q{SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')});
	change_definition(q{SELECT contactsync_unwatch('visitors', 'other')});
	return;
}

change_often(50);
my $memory = worker_memory();
change_often(100) foreach 1 .. 5;
cmp_ok(worker_memory() - $memory, '<', 256 * 1024, 'the memory of the worker does not grow with the number of changes');

$node->stop;
done_testing();
