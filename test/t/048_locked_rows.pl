# Somebody has locked the rows of a server and its watches, or their tables against writing: whatever the worker has to store there,
# it goes on for the others, and status says what is waited for.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.probe_interval' => '1s');
my %fast = (pace => 1000, burst => 1000);

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]", extra_params => [ '-U', 'shop' ]); }

# Create a server and a table of the same name; %param as for create_server(), and fields, watch and rows.
sub make
{
	my ($name, $provider, %param) = @_;
	my ($fields, $watch, $rows) = map { $_ // '' } delete @param{qw(fields watch rows)};

	create_server($node, $sandbox, $provider, account => $name, role => 'shop', %param, server => { %fast, %{ $param{server} // {} } });
	sql(qq{CREATE TABLE "$name" (id int PRIMARY KEY, email text, consent bool);
		INSERT INTO "$name" SELECT g, 'r' || g || '\@example.com' FROM generate_series(1, 0$rows) g;
		SELECT contactsync_watch('"$name"', '$name', '{"email": "email"$fields}'$watch)});
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT ALL ON SCHEMA public TO shop');
make('other', 'mailingcore');
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'};
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($worker) w") or die 'timed out waiting for the worker';
my $pid = $node->safe_psql('postgres', $worker);
my $n = 0;
my $cases = 0;

sub serve_others
{
	my ($when) = @_;

	foreach (1 .. 3)
	{
		$n++;
		sql("INSERT INTO other VALUES ($n, 'o$n\@example.com'); CALL contactsync_wait('other')");
	}
	is(scalar @{ $sandbox->contacts('mailingcore', account => 'other') }, $n, "others are served while $when");
	$node->poll_query_until('postgres', "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid") or die 'timed out waiting for the worker';
	return;
}

# What the worker has to store: the server and its options, what happens, and what is so in the end.
my %cases = (
	calls => {
		waits => [qw(endpoint)],
		happens => q{INSERT INTO "$" VALUES (100, 'new@example.com')},
		finally => q{state = 'idle' AND synced = 1 AND backlog = 0}
	},
	halt => {
		waits => [qw(endpoint)],
		fault => { times => undef, action => { status => 401 } },
		happens => q{INSERT INTO "$" VALUES (100, 'new@example.com')},
		finally => q{state = 'halted'}
	},
	throttle => {
		waits => [qw(endpoint)],
		fault => { times => undef, action => { status => 429, headers => { 'Retry-After' => '100000' } } },
		happens => q{INSERT INTO "$" VALUES (100, 'new@example.com')},
		finally => q{state = 'throttled'}
	},
	learning => {
		waits => [qw(endpoint)],
		make => { fields => ', "opt_in": "consent"' },
		happens => q{INSERT INTO "$" VALUES (100, 'new@example.com', true)},
		finally => q{state = 'idle' AND synced = 1}
	},
	import => {
		waits => [qw(endpoint watch)],
		make => { rows => 50 },
		happens => q{SELECT contactsync_import('"$"', '$')},
		finally => q{state = 'idle' AND synced = 50 AND reason IS NULL}
	},
	schedule => {
		waits => [qw(endpoint watch)],
		make => { rows => 5 },
		happens => q{SELECT contactsync_alter_watch('"$"', '$', reconcile_every => '1 second')},
		before => 1,
		finally => q{synced + unchanged >= 5}
	},
	guard => {
		waits => [qw(watch)],
		provider => 'caramel',
		make => { server => { bulk_guard => 5 } },
		happens => q{INSERT INTO "$" SELECT g, 'g' || g || '@example.com' FROM generate_series(100, 120) g},
		finally => q{state = 'guarded'}
	},
	removals => {
		waits => [qw(watch)],
		make => { rows => 20, watch => q{, on_delete => 'delete', delete_delay => '0', delete_guard => '5'} },
		prepare => q{SELECT contactsync_import('"$"', '$'); CALL contactsync_wait('$')},
		happens => q{DELETE FROM "$" WHERE id <= 15},
		finally => q{state = 'guarded'}
	},
	broken => {
		waits => [qw(watch)],
		prepare => q{INSERT INTO "$" VALUES (1, 'a@example.com'); CALL contactsync_wait('$')},
		happens => q{ALTER TABLE "$" DROP COLUMN email},
		finally => q{state = 'broken'}
	},
	renamed => {
		waits => [qw(endpoint watch)],
		happens => q{ALTER TABLE "$" RENAME COLUMN email TO address; INSERT INTO "$" VALUES (1, 'a@example.com')},
		finally => q{state = 'idle' AND synced = 1}
	});

# Wait until status says that the server waits for a lock, and type what the hint says.
sub told
{
	my ($name, $what) = @_;
	my $status = qq{FROM contactsync.status WHERE server = '$name' AND source IS NOT NULL};

	$node->poll_query_until('postgres', "SELECT bool_and(reason ~ '^an open transaction has locked') $status")
	  or die "timed out waiting for $what to be told, status is " . sql("SELECT state, reason, backlog $status");
	my ($look) = sql("SELECT hint $status") =~ /(SELECT pid.*;)/;
	like($look ? $node->safe_psql('postgres', $look) : '', qr/\|postgres\|idle in transaction\|/, "$what: status says so, and what to type to see who");
	return;
}

foreach my $case (sort keys %cases)
{
	foreach my $lock (
		[ endpoint => 'its row of endpoint is locked', q{SELECT FROM contactsync.endpoint WHERE server = '$' FOR UPDATE} ],
		[ watch => 'its row of watch is locked', q{SELECT FROM contactsync.watch WHERE source = '"$"'::regclass FOR UPDATE} ],
		[ watch => 'the table watch is locked', 'LOCK TABLE contactsync.watch IN SHARE MODE' ])
	{
		my (undef, $when, $statement) = @$lock;
		my %case = %{ $cases{$case} };
		my $provider = $case{provider} // 'mailingcore';
		my $name = $case . ++$cases;
		my $insert = sub { $_[0] =~ s/\$/$name/gr };

		make($name, $provider, %{ $case{make} // {} });
		sql($insert->($case{prepare})) if $case{prepare};
		$sandbox->fault($provider, { match => { account => $name }, %{ $case{fault} } }) if $case{fault};
		my $session = $node->background_psql('postgres');
		my $happens = sub { sql($insert->($case{happens})) };
		# what itself writes there has to come first
		$happens->() if $case{before};
		$session->query_safe('BEGIN; ' . $insert->($statement));
		$happens->() if !$case{before};
		serve_others("$when ($case)");
		# not of the others: while the row of watch is locked, status says nothing of a schedule that waits
		told($name, "$case, $when") if $case lt 'schedule' && grep { $_ eq $lock->[0] } @{ $case{waits} };
		$session->query_safe('ROLLBACK');
		$session->quit;
		$node->poll_query_until('postgres', qq{SELECT bool_and($case{finally}) FROM contactsync.status WHERE server = '$name' AND source IS NOT NULL})
		  or die "timed out waiting for $name: " . $node->safe_psql('postgres', qq{SELECT * FROM contactsync.status WHERE server = '$name'});
		pass("$case: what was to be stored is stored in the end, after $when");
		$node->safe_psql('postgres', qq{DROP TABLE "$name"; DROP SERVER $name CASCADE});
		$sandbox->clear_faults($provider, account => $name) if $case{fault};
	}
}
# What an administrator has locked of the watches delays nobody's DDL, whoever has watches.
make('gone', 'mailingcore', rows => 3);
sql(q{SELECT contactsync_import('gone', 'gone'); CALL contactsync_wait('gone')});
{
	my $session = $node->background_psql('postgres');

	$session->query_safe('BEGIN; LOCK TABLE contactsync.watch');
	sql(q{CREATE TABLE free (id int PRIMARY KEY, parent int); CREATE TABLE child () INHERITS (free); ALTER TABLE free ADD more int;
		ALTER TABLE free RENAME more TO less; ALTER TABLE free RENAME TO freed; DROP TABLE freed CASCADE; DROP TABLE gone});
	my (undef, undef, $error) = $node->psql('postgres', 'DROP USER MAPPING FOR CURRENT_USER SERVER gone; DROP SERVER gone', extra_params => [ '-U', 'shop' ]);
	like($error, qr/lock timeout/, 'a server for which tables may be watched is not dropped');
	$session->query_safe('ROLLBACK');
	$session->quit;
}
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.status WHERE source IS NOT NULL AND server = 'gone'}) or die 'timed out waiting for the watch to end';
pass('the watch of a table that was dropped meanwhile ends');
sql('DROP SERVER gone CASCADE');

# All of the table of servers, without which nothing can be sent: the worker waits without a snapshot, and status says for what.
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE contactsync.endpoint IN SHARE MODE');
$n++;
sql("INSERT INTO other VALUES ($n, 'o$n\@example.com')");
$node->poll_query_until('postgres', q{SELECT bool_and(worker = 'waiting for a lock') FROM contactsync.status}) or die 'timed out waiting for the worker to say that it waits';
my ($look) = sql(q{SELECT DISTINCT hint FROM contactsync.status}) =~ /(SELECT pid.*;)/ or die 'there is nothing to type';
like(sql($look), qr/^\d+\|contactsync.endpoint\|ShareLock$/, 'what the hint says shows who has locked the table');
$node->poll_query_until('postgres', "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid") or die 'timed out waiting for the worker';
$session->query_safe('ROLLBACK');
$session->quit;
sql(q{CALL contactsync_wait('other')});
is(sql(q{SELECT DISTINCT worker, hint FROM contactsync.status}), 'running|', 'it goes on when the lock is released');
is($node->safe_psql('postgres', $worker), $pid, 'the worker was not restarted');

$node->stop;
done_testing();
