# Where the server has fewer processes than databases with something to do, these take turns.

use strict;
use warnings;

use ContactSync;
use Test::More;

# besides the launchers of logical replication and of contactsync, there is a process for one worker
my $sandbox = start_sandbox();
my $node = start_node(max_worker_processes => 3);
my @databases = map { "db$_" } 1 .. 3;

sub arrive
{
	my ($n) = @_;

	$sandbox->wait_for_contacts('mailingcore', $n, account => $_) foreach @databases;
	return;
}

foreach my $db (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	create_server($node, $sandbox, 'mailingcore', account => $db, dbname => $db);
	$node->safe_psql($db, qq{
		CREATE TABLE customers (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('customers', '$db', '{"email": "email"}')});
}
$node->safe_psql($_, q{INSERT INTO customers VALUES (1, '1@example.com')}) foreach @databases;
arrive(1);
pass('the changes of all databases are sent, though there is one process for their workers');
$node->safe_psql($_, q{INSERT INTO customers VALUES (2, '2@example.com')}) foreach reverse @databases;
arrive(2);
pass('and once more');

# a worker that has always something to do does not stay either
$node->safe_psql('db1', q{INSERT INTO customers SELECT g, g || '@example.com' FROM generate_series(3, 100000) g});
$sandbox->fault('mailingcore', { match => { account => 'db1' }, times => undef, action => { latency => 0.3 } });
$node->safe_psql('db1', q{ALTER SERVER db1 OPTIONS (ADD batch_size '10', ADD concurrency '1')});
$node->safe_psql($_, q{INSERT INTO customers VALUES (100001, '3@example.com')}) foreach qw(db2 db3);
$sandbox->wait_for_contacts('mailingcore', 3, account => $_) foreach qw(db2 db3);
isnt($node->safe_psql('db1', 'SELECT backlog FROM contactsync.status'), '0', 'a database with a backlog leaves its process to the others');
my $worker = $node->safe_psql('db1', 'SELECT worker FROM contactsync.status');
like($worker, qr/^(waiting for its turn|running|starting)$/, 'status says so');
my $hint = q{SELECT string_agg(DISTINCT hint, '|') FROM contactsync.status WHERE worker = 'waiting for its turn'};
ok((grep { $node->safe_psql($_, $hint) =~ /take turns.*max_worker_processes = 6/ } @databases), 'and what to do about it');
is(() = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /could not start a worker/g, 1, 'the log says it once');

$node->stop;
done_testing();
