# A dump includes watches, state, queue and failures. A restored or copied database sends nothing until it is resumed,
# in whatever order its rows are restored; then it sends the queued changes, and does not trust the stored state.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);
my $other = start_node(-name => 'other', 'contactsync.clock_speed' => 20);

# The contents of the dump: state, a failure, queued keys and a queued contact, a partitioned table, and a table with
# children, whose triggers are both in the dump and created by the extension.
create_server($node, $sandbox, 'mailingcore', account => 'crm');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text, other text);
	CREATE TABLE parted (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
	CREATE TABLE parent (id int PRIMARY KEY, email text);
	CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
	CREATE TABLE referring (id int PRIMARY KEY REFERENCES parted);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', filter => 'id <> 13');
	SELECT contactsync_watch('parted', 'crm', '{"email": "email", "external_id": "id + 1000"}');
	SELECT contactsync_watch('parent', 'crm', '{"email": "email", "external_id": "id + 2000"}', on_delete => 'delete');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A' FROM generate_series(1, 20) g;
	INSERT INTO customers VALUES (21, 'nobody', 'A');
	INSERT INTO parted VALUES (1, 'parted@example.com');
	INSERT INTO child VALUES (1, 'child@example.com');
	CALL contactsync_wait('crm');
});
$sandbox->fault('mailingcore', { times => undef, action => { status => 503 } });
# in another cluster these transactions are in the future, and the first change queued there has the same number as the contact
$node->safe_psql(
	'postgres', q{
	DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$;
	UPDATE customers SET plan = 'B' WHERE id <= 5;
	SELECT contactsync_upsert('crm', '{"email": "direct@example.com", "external_id": "direct"}');
});
$sandbox->wait_for_journal('mailingcore', sub { grep { ($_->{status} // 0) == 503 } @_ });

my $kept = q{
	SELECT (SELECT json_agg(x ORDER BY x::text) FROM (SELECT source, key, contact FROM contactsync.changes) x),
		(SELECT json_agg(x ORDER BY x::text) FROM (SELECT source, key, upsert_key, action FROM contactsync.contacts) x),
		(SELECT json_agg(x ORDER BY x::text) FROM (SELECT source, key, reason, message FROM contactsync.failures) x),
		(SELECT json_agg(x ORDER BY x::text) FROM (SELECT source, server, owner, key, mapping, filter, on_delete FROM contactsync.watches) x),
		(SELECT json_agg(x ORDER BY x::text) FROM (SELECT server, source, synced, failed FROM contactsync.status) x)};
my $before = $node->safe_psql('postgres', $kept);
like($before, qr/direct\@example.com.*"key":"5".*"upsert_key":"1".*"invalid_email"/s, 'the dump is not empty');

# the triggers of a database, which both a dump and the extension create
my $triggers = q{SELECT string_agg(format('%s %s', tgrelid::regclass, tgname), ', ' ORDER BY tgrelid::regclass::text, tgname)
	FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc};
my $triggers_before = $node->safe_psql('postgres', $triggers);

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->safe_psql('postgres', 'CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", 'postgres' ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", 'postgres' ], 'pg_dump of statements');
$node->command_ok([ 'pg_dump', '-U', 'dumper', '-Fc', '-f', "$dump.reader", 'postgres' ], 'a role that may read all data can dump it');

$other->safe_psql('postgres', 'CREATE ROLE dumper');
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'restored', 'typed';
$other->safe_psql('postgres', "CREATE DATABASE $_") foreach 'elsewhere', 'reader';
$node->command_ok([ 'pg_restore', '-e', '-d', 'restored', "$dump.custom" ], 'into another database');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", 'typed' ], 'by psql');
$other->command_ok([ 'pg_restore', '-e', '-j', '2', '-d', 'elsewhere', "$dump.custom" ], 'into another cluster, in parallel');
$other->command_ok([ 'pg_restore', '-e', '-d', 'reader', "$dump.reader" ], 'what a reader dumped');
$node->safe_psql('postgres', 'CREATE DATABASE hub');
$node->safe_psql('hub', 'SELECT');
$node->safe_psql('hub', 'CREATE DATABASE copied TEMPLATE postgres');

# the original continues, and the copies have every opportunity to send
$sandbox->clear_faults('mailingcore');
$node->poll_query_until('postgres', q{SELECT sum(backlog) = 0 FROM contactsync.status}) or die 'timed out waiting for the original';
my $requests = $sandbox->count('mailingcore')->{requests};

# pg_restore -j may create the trigger of a partitioned table before it loads the partitions, whose rows are changes then
my $parted = qr/, \n \{"source":"parted","key":"1","contact":null\}/;
my %parted_captured;
my @copies = ([ $node, 'restored' ], [ $node, 'typed' ], [ $node, 'copied' ], [ $other, 'elsewhere' ], [ $other, 'reader' ]);

foreach my $copy (@copies)
{
	my ($cluster, $dbname) = @$copy;

	$cluster->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = '$dbname'})
	  or die "timed out waiting for the worker of $dbname";
	my $restored = $cluster->safe_psql($dbname, $kept);
	$parted_captured{$dbname} = $restored =~ s/$parted// if $dbname eq 'elsewhere';
	is($restored, $before, "$dbname has all data");
	is($cluster->safe_psql($dbname, $triggers), $triggers_before, '$dbname has all triggers');
	is( $cluster->safe_psql($dbname, q{SELECT DISTINCT state, reason FROM contactsync.status}),
		q{paused|this database was restored or copied; if no other sends to the server: SELECT contactsync_resume('crm')},
		'$dbname is paused, with the reason');

	# sessions that use the database find the same; each of these statements makes the worker read the definitions again
	$cluster->safe_psql(
		$dbname, q{
		UPDATE customers SET plan = 'C' WHERE id = 6;
		SELECT contactsync_upsert('crm', '{"email": "more@example.com", "external_id": "more"}');
		CREATE TABLE later (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('later', 'crm', '{"email": "email", "external_id": "id + 3000"}');
		INSERT INTO later VALUES (1, 'later@example.com');
	}) unless $dbname eq 'reader';
	my (undef, undef, $stderr) = $cluster->psql($dbname, q{CALL contactsync_wait('crm')});
	like($stderr, qr/cannot continue: this database was restored or copied/, '... contactsync_wait() fails');
	(undef, undef, $stderr) = $cluster->psql($dbname, q{SELECT contactsync_resume('customers', 'crm')});
	like($stderr, qr/all of server "crm" is paused.*HINT:  .*SELECT contactsync_resume\('crm'\)/s, '... a single watch cannot be resumed');
}

# A row in contactsync.minute for a restored endpoint would conflict with those that a parallel pg_restore has yet to restore.
# The row of 2020 is removed when the worker next records the backlog.
my @restarted = grep { $_->[0] == $node } @copies;
$node->safe_psql($_->[1], q{TRUNCATE contactsync.minute; INSERT INTO contactsync.minute (endpoint, at, first_at) SELECT id, '2020-01-01', '2020-01-01' FROM contactsync.endpoint})
  foreach @restarted;
$node->stop;
$node->start;
foreach my $copy (@restarted)
{
	$node->poll_query_until($copy->[1], q{SELECT count(*) = 0 FROM contactsync.minute WHERE at = '2020-01-01'})
	  or die "timed out waiting for the worker of $copy->[1]";
	is($node->safe_psql($copy->[1], q{SELECT count(*) FROM contactsync.minute}), '0', "the worker of $copy->[1] records no backlog");
}
foreach my $copy (@copies)
{
	my ($cluster, $dbname) = @$copy;
	$cluster->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = '$dbname'})
	  or die "timed out waiting for the worker of $dbname";
}
$_->wait_for_log(qr/WARNING:  contactsync sends nothing to server "crm": this database was restored or copied\n.*HINT:  If no other .*contactsync_resume\('crm'\)/) foreach $node, $other;
is($sandbox->count('mailingcore')->{requests}, $requests, 'no copy has sent anything');

# after contactsync_resume() they send the queued changes, and nothing else
foreach my $copy (grep { $_->[1] ne 'reader' } @copies)
{
	my ($cluster, $dbname) = @$copy;
	my $from = @{ $sandbox->journal('mailingcore') };

	$cluster->safe_psql($dbname, q{SELECT contactsync_resume('crm'); CALL contactsync_wait('crm')});
	my @requests = @{ $sandbox->journal('mailingcore') };
	is( join(' ', sort grep { !/@/ } map { @{ $_->{keys} // [] } } @requests[ $from .. $#requests ]),
		join(' ', 1, $parted_captured{$dbname} ? 1001 : (), '2 3 3001 4 5 6 direct more'), "$dbname sends its queued changes");
	is($cluster->safe_psql($dbname, q{SELECT DISTINCT state FROM contactsync.status}), 'idle', '... its servers are idle');
}
my ($cluster, $dbname) = ($node, 'restored');

# the stored state is not trusted: the original may have continued after the dump
sub calls_of
{
	my $from = $sandbox->count('mailingcore')->{requests};
	$cluster->safe_psql(
		$dbname, q{
		BEGIN; UPDATE customers SET plan = 'X' WHERE id = 20; UPDATE customers SET plan = 'A' WHERE id = 20; COMMIT;
		CALL contactsync_wait('crm')});
	return $sandbox->count('mailingcore')->{requests} - $from;
}
is(calls_of(), 1, 'an unchanged row is sent once more');
is(calls_of(), 0, 'then its state is known');

# dependent objects: triggers of new children, a dropped table, a dropped server
$cluster->safe_psql(
	$dbname, q{
	CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child);
	INSERT INTO grandchild VALUES (7, 'grandchild@example.com');
	CALL contactsync_wait('crm')});
is((grep { $_->{externalId} eq '2007' } @{ $sandbox->contacts('mailingcore', account => 'crm') }), 1, 'new children of a table are watched');
$other->safe_psql('reader', q{DROP TABLE customers; CREATE SERVER x FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat'); DROP SERVER x});
is($other->safe_psql('reader', q{SELECT count(*) FROM contactsync.watches}), '2', 'a table that is dropped during a pause removes its watch');
$other->safe_psql('reader', q{DROP SERVER crm CASCADE});
is($other->safe_psql('reader', q{SELECT (SELECT count(*) FROM contactsync.watches), (SELECT count(*) FROM contactsync.status), (SELECT count(*) FROM contactsync.contacts)}),
	'0|0|0', 'a server that is dropped removes all its data');

# restore into the database of the dump
$node->safe_psql('restored', 'DROP EXTENSION contactsync CASCADE; DROP TABLE customers, parted, child, parent, later, referring CASCADE');
$node->command_ok([ 'pg_restore', '-e', '-d', 'restored', "$dump.custom" ], 'a dump is restored into the database of before');
is($node->safe_psql('restored', q{SELECT DISTINCT state FROM contactsync.status}), 'paused', 'it counts as another database');

$_->stop foreach $node, $other;
unlike(PostgreSQL::Test::Utils::slurp_file($_->logfile), qr/(PANIC|terminated by signal|deadlock|does not exist)/, 'the log contains no crash')
  foreach $node, $other;
done_testing();
