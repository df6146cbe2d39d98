# Sources without triggers are polled: views, materialized views, foreign tables, and optionally tables.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 100;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '10s');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub stderr_of
{
	my ($sql) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr);
	return $stderr;
}

# Return the contacts at a provider as "id plan" in the order of ids.
sub remote
{
	my ($account) = @_;

	return join(',', map { "$_->[0] $_->[1]" } sort { $a->[0] cmp $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{plan} ] } @{ $sandbox->contacts('mailingcore', account => $account) });
}

sub arrives
{
	my ($account, $expected, $title) = @_;

	wait_for($title, sub { remote($account) eq $expected });
	is(remote($account), $expected, $title);
	return;
}

my $mapping = '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}';
create_server($node, $sandbox, 'mailingcore', account => $_, server => { pace => 1000, burst => 1000 }) foreach 'seen', 'kept', 'far', 'own';
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text, updated_at timestamptz);
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'old', now() - interval '1 day' FROM generate_series(1, 9) g;
	CREATE VIEW seen AS SELECT * FROM customers WHERE id > 0;
	CREATE VIEW windowed AS SELECT *, count(*) OVER () FROM customers;
	CREATE MATERIALIZED VIEW kept AS SELECT id, id % 10 AS part, email, plan, updated_at::timestamp FROM customers;
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'postgres', host '} . $node->host . q{', port '} . $node->port . q{');
	CREATE USER MAPPING FOR CURRENT_USER SERVER itself;
	CREATE FOREIGN TABLE far (id int, email text, plan text, updated_at timestamptz) SERVER itself OPTIONS (table_name 'customers');
});

# ---------- errors ----------

sub watch_error { my ($source, $server, $more) = @_; return stderr_of("SELECT contactsync_watch('$source', '$server', '$mapping' $more)"); }
like(watch_error('kept', 'kept', ''), qr/ERROR: +"kept" is not a table\nDETAIL: .*triggers.*\nHINT: .*capture => 'poll'/, 'a materialized view has no triggers, and the hint names the alternative');
like(watch_error('windowed', 'kept', ", key => '{id}'"), qr/ERROR: +view "windowed" is not plain enough .*\nDETAIL: +It has window functions.\nHINT: .*capture => 'poll'/, 'nor has a view that is not plain');
like(watch_error('seen', 'seen', ", capture => 'poll', key => '{id}'"), qr/ERROR: +capture => 'poll' needs "poll_column"/, 'polling needs a column');
like(watch_error('seen', 'seen', ", capture => 'poll', key => '{id}', poll_column => 'changed_at'"), qr/ERROR: +column "changed_at" of "poll_column" does not exist/, 'the column must exist');
like(watch_error('seen', 'seen', ", capture => 'poll', key => '{id}', poll_column => 'plan'"), qr/ERROR: +poll_column "plan" is of type text/, 'its type must be a time');
like(watch_error('seen', 'seen', ", capture => 'poll', poll_column => 'updated_at'"), qr/ERROR: +"seen" has no primary key\nHINT: .*key => '\{id\}'/, 'the key of a view must be specified');
like(watch_error('customers', 'seen', ", poll_column => 'updated_at'"), qr/ERROR: +"poll_column" is for a source that is polled/, 'poll_column requires capture => poll');
like(watch_error('customers', 'seen', ", capture => 'often'"), qr/ERROR: +invalid value for "capture": "often"\nHINT: +Use 'trigger' or 'poll'/, 'the value of capture is checked');
like(watch_error('customers', 'seen', ", capture => 'poll', poll_column => 'updated_at', poll_every => '0'"), qr/ERROR: +"poll_every" must be at least a second/, 'poll_every is limited');
like(watch_error('customers', 'seen', ", reconcile_at => '03:00'"), qr/ERROR: +"reconcile_at" needs "reconcile_every" in whole days/, 'reconcile_at requires reconcile_every');

# ---------- changes ----------

sub poll
{
	my ($source, $server, $more) = @_;

	sql("SELECT contactsync_watch('$source', '$server', '$mapping', capture => 'poll', poll_column => 'updated_at', poll_every => '1 min' @{[ $more // '' ]})");
	return;
}
poll('seen', 'seen', ", key => '{id}', filter => 'plan <> ''hidden'''");
poll('kept', 'kept', ", key => '{part,id}'");
poll('far', 'far', ", key => '{id}'");
poll('customers', 'own');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'contactsync%'}), '0', 'a polled source has no triggers');
is(sql(q{SELECT poll_column, poll_every FROM contactsync.watches WHERE server = 'seen'}), 'updated_at|00:01:00', 'the view watches shows the schedule');

sql(q{UPDATE customers SET plan = 'new', updated_at = now() WHERE id IN (2, 3); REFRESH MATERIALIZED VIEW kept});
arrives($_, '2 new,3 new', "a change of $_ arrives, and nothing else") foreach 'seen', 'kept', 'far', 'own';
sql(q{INSERT INTO customers VALUES (10, 'c10@example.com', 'new', now()), (11, 'c11@example.com', 'hidden', now()), (12, 'nobody', 'new', now())});
arrives('seen', '10 new,2 new,3 new', 'so does a new row');
wait_for('the failure', sub { sql(q{SELECT string_agg(key || reason, ',') FROM contactsync.failures WHERE server = 'seen'}) eq '12invalid_email' });
my $requests = $sandbox->count('mailingcore', account => 'seen')->{requests};

# unchanged rows in the overlap are compared in each round, and not sent
my $round = q{SELECT done FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'seen'::regclass};
my $next = sql(q{SELECT next_at FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'seen'::regclass});
foreach (1 .. 2)
{
	$node->poll_query_until('postgres', qq{SELECT next_at > '$next' FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'seen'::regclass})
	  or die 'timed out waiting for a round';
	$next = sql(q{SELECT next_at FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'seen'::regclass});
}
is($sandbox->count('mailingcore', account => 'seen')->{requests}, $requests, 'an unchanged row is not sent again');
is(sql(q{SELECT attempts FROM contactsync.failures WHERE server = 'seen'}), '1', 'an unchanged row does not fail again');

# a transaction that commits late, with a time before the newest: this is the purpose of the overlap
my $late = $node->background_psql('postgres');
$late->query_safe(q{BEGIN; UPDATE customers SET plan = 'late', updated_at = now() WHERE id = 4});
sql(q{UPDATE customers SET plan = 'newer', updated_at = clock_timestamp() WHERE id = 5});
wait_for('the newer one', sub { remote('seen') =~ /5 newer/ });
$late->query_safe('COMMIT');
$late->quit;
wait_for('the late one', sub { remote('seen') =~ /4 late/ });
like(remote('own'), qr/\b5 newer/, 'a transaction that commits late is not missed');

# a row whose time is in the future does not hide others
sql(q{UPDATE customers SET plan = 'future', updated_at = now() + interval '1 year' WHERE id = 6});
wait_for('the one to come', sub { remote('seen') =~ /6 future/ });
sql(q{UPDATE customers SET plan = 'present', updated_at = now() WHERE id = 7});
wait_for('another one', sub { remote('seen') =~ /7 present/ });
ok(1, 'a time in the future does not hide current rows');

# crashes
crash_worker($node, 'postgres');
sql(q{UPDATE customers SET plan = 'after', updated_at = now() WHERE id = 8});
wait_for('one after a crash', sub { remote('seen') =~ /8 after/ });
ok(1, 'polling continues after a crash');

# a reconciliation finds rows that vanished
sql(q{DELETE FROM customers WHERE id = 2; SELECT contactsync_unwatch('seen', 'seen')});
poll('seen', 'seen', ", key => '{id}', on_delete => 'delete', delete_delay => '0'");
sql(q{SELECT contactsync_import('seen', 'seen'); CALL contactsync_wait('seen'); DELETE FROM customers WHERE id = 3; SELECT contactsync_reconcile('seen', 'seen'); CALL contactsync_wait('seen')});
unlike(remote('seen'), qr/\b3 /, 'a row that vanished is found by a reconciliation');

# ---------- alterations ----------

create_server($node, $sandbox, 'mailingcore', account => 'turn', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE turning (id int PRIMARY KEY, email text, plan text, updated_at timestamptz, changed date, touched timestamptz);
	INSERT INTO turning SELECT g, format('t%s@example.com', g), 'old', now() - interval '1 day', '2001-01-01', now() - interval '1 day' FROM generate_series(1, 9) g});
poll('turning', 'turn', ", poll_overlap => '0'");
my $turning = q{FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'turning'::regclass AND kind = 'poll'};
my $walked = "SELECT s.xmin <> w.xmin $turning";	# both were stored when the watch was altered
sql(q{SELECT contactsync_alter_watch('turning', 'turn', poll_every => '1 year')});
$node->poll_query_until('postgres', $walked) or die 'timed out waiting for the first round';
is(sql("SELECT count(*) $turning"), '1', 'the source is polled at once, and then at the altered interval');
sql(q{UPDATE turning SET plan = 'touched', touched = now() WHERE id = 4; SELECT contactsync_alter_watch('turning', 'turn', poll_column => 'touched')});
arrives('turn', '4 touched', 'by another column that is found, and only that, which changed since the last round by it');
$node->poll_query_until('postgres', $walked) or die 'timed out waiting for another round';
sql(q{UPDATE turning SET plan = 'soon', touched = clock_timestamp() WHERE id = 5; SELECT contactsync_alter_watch('turning', 'turn', poll_every => '10 s')});
arrives('turn', '4 touched,5 soon', 'more often is at once');
sql(q{UPDATE turning SET plan = 'sooner', touched = clock_timestamp() WHERE id = 6});
arrives('turn', '4 touched,5 soon,6 sooner', 'and from then on');

# ---------- failures ----------

my $state = q{SELECT state || ' ' || COALESCE(reason, '') FROM contactsync.status WHERE server};
sql(q{ALTER TABLE customers RENAME updated_at TO touched_at; UPDATE customers SET plan = 'renamed', touched_at = now() WHERE id = 1});
wait_for('the renamed one', sub { remote('own') =~ /\b1 renamed/ });
ok(1, 'a renamed column is followed');
wait_for('far to be broken', sub { sql("$state = 'far'") =~ /^broken / });
like(sql("$state = 'far'"), qr/updated_at/, 'an error of the source breaks the watch, with the reason');
my @errors = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /ERROR: +column "updated_at" does not exist at character/g;
cmp_ok(scalar @errors, '<', 20, 'a failing source is not read continuously');
sql(q{ALTER TABLE customers RENAME touched_at TO updated_at; UPDATE customers SET plan = 'mended', updated_at = now() WHERE id = 1});
wait_for('the corrected watch', sub { remote('far') =~ /\b1 mended/ });
like(sql("$state = 'far'"), qr/^(idle|running)/, 'the watch continues when the error is corrected');
sql(q{DROP VIEW seen});
is(sql(q{SELECT count(*) FROM contactsync.watches WHERE server = 'seen'}), '0', 'dropping the view drops the watch');
is(sql(q{SELECT count(*) FROM contactsync.scan s WHERE NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = s.watch)}), '0', 'polling ends with the watch');

# the owner loses the privilege to read
sql(q{
	CREATE ROLE clerk LOGIN;
	GRANT SELECT ON customers TO clerk;
	GRANT USAGE ON FOREIGN SERVER seen TO clerk;
	CREATE USER MAPPING FOR clerk SERVER seen OPTIONS (api_key 'mc_test_seen')});
$node->safe_psql('postgres', qq{SELECT contactsync_watch('customers', 'seen', '$mapping', capture => 'poll', poll_column => 'updated_at', poll_every => '10 s')},
	extra_params => [ '-U', 'clerk' ]);
sql(q{REVOKE SELECT ON customers FROM clerk});
wait_for('the right to be missed', sub { sql("$state = 'seen' AND source IS NOT NULL") =~ /^broken / });
like(sql("$state = 'seen' AND source IS NOT NULL"), qr/permission denied for table customers/, 'a revoked privilege breaks the watch');

# the poll column is dropped
sql(q{DROP MATERIALIZED VIEW kept; CREATE TABLE bare (id int PRIMARY KEY, email text, plan text, updated_at timestamptz)});
poll('bare', 'kept');
sql(q{ALTER TABLE bare DROP COLUMN updated_at});
wait_for('the column to be missed', sub { sql("$state = 'kept' AND source IS NOT NULL") =~ /^broken / });
like(sql("$state = 'kept' AND source IS NOT NULL"), qr/the poll column .* does not exist any more/, 'a dropped poll column breaks the watch');

# in the foreground
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
sql(q{UPDATE customers SET plan = 'called', updated_at = now() WHERE id = 9});
stderr_of(q{CALL contactsync_run('own')});
like(remote('own'), qr/\b9 called/, 'contactsync_run() polls at once');

$node->stop;
done_testing();
