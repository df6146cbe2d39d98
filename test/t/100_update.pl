# A library that is newer than the tables: changes are captured, nothing is sent, and the log names the command to run. After
# ALTER EXTENSION UPDATE the worker delivers everything.
#
# No older version has been released yet, so this test uses tables of the library's version and labels them as older.
# sql/update.sql tests the result of an update script.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'mailingcore', account => 'crm');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_extension_update_paths('contactsync') WHERE path IS NOT NULL}),
	'0', 'there is no older version; once there is one, this test must start with it');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	INSERT INTO customers VALUES (1, 'one@example.com', 'A'), (2, 'two@example.com', 'A');
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
	CREATE TABLE label AS SELECT extversion FROM pg_extension WHERE extname = 'contactsync';
});

# the new library is loaded when the server starts
$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = 'older' WHERE extname = 'contactsync'});
$node->stop;
$node->start;
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (3, 'three@example.com', 'A')});
$node->wait_for_log(qr/WARNING:  contactsync sends nothing: its library is of version .*\n.*HINT:  Use ALTER EXTENSION contactsync UPDATE/);
is( $node->safe_psql('postgres', q{SELECT backlog, worker, hint FROM contactsync.status}),
	'1|waiting for ALTER EXTENSION contactsync UPDATE|ALTER EXTENSION contactsync UPDATE;', 'before the update changes are captured');
$node->stop;
$node->start;
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'B' WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT query LIKE '%waiting for ALTER EXTENSION%' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker';
my (undef, undef, $stderr) = $node->psql('postgres', q{SELECT contactsync_upsert('crm', '{"email": "four@example.com"}')});
like($stderr, qr/ERROR:  the library of extension "contactsync" is of version .*\nHINT:  Use ALTER EXTENSION contactsync UPDATE/, 'the error names the command to run');
is($sandbox->count('mailingcore')->{requests}, 0, 'nothing is sent before the update');

# an update script ends with contactsync.launch(), as the script of the extension does
$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = (SELECT extversion FROM label) WHERE extname = 'contactsync'; SELECT contactsync.launch()});
$node->poll_query_until('postgres', q{SELECT backlog = 0 AND worker = 'running' FROM contactsync.status}) or die 'timed out waiting for the delivery';
is( join(' ', sort map { "$_->{externalId}$_->{attributes}{plan}" } @{ $sandbox->contacts('mailingcore', account => 'crm') }),
	'1B 3A', 'after the update the worker delivers exactly the captured changes');
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'C' WHERE id = 2; CALL contactsync_wait('crm')});
is(scalar @{ $sandbox->contacts('mailingcore', account => 'crm') }, 3, 'later changes are delivered');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log contains no crash');
done_testing();
