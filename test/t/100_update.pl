# A new library over the tables of version 0.1: changes are captured, nothing is sent, and the log says what to type. After
# ALTER EXTENSION UPDATE the worker goes on by itself with all that is there.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# What 0.1 left behind. Its library is not here, so its watch is made by hand.
$node->safe_psql('postgres', q{CREATE EXTENSION contactsync VERSION '0.1'});
create_server($node, $sandbox, 'mailingcore', account => 'crm');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	INSERT INTO customers VALUES (1, 'one@example.com', 'A'), (2, 'two@example.com', 'A');
	INSERT INTO contactsync.endpoint (server_oid, server, role) SELECT oid, srvname, current_user::regrole FROM pg_foreign_server;
	INSERT INTO contactsync.watch (source, endpoint, key, mapping, search_path)
	VALUES ('customers', 1, '{id}', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', 'public');
	CREATE TRIGGER contactsync_1 AFTER INSERT OR UPDATE OR DELETE ON customers
	FOR EACH ROW EXECUTE FUNCTION contactsync.capture('1', '1', '1', 'id', 'id', 'email', 'plan');
	INSERT INTO customers VALUES (3, 'three@example.com', 'A');
});
$node->wait_for_log(qr/WARNING:  contactsync sends nothing: its library is of version .*\n.*HINT:  Use ALTER EXTENSION contactsync UPDATE/);
is($node->safe_psql('postgres', q{SELECT backlog, worker FROM contactsync.status}), '1|waiting for ALTER EXTENSION contactsync UPDATE', 'before the update changes are kept');
$node->stop;
$node->start;
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'B' WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT query LIKE '%waiting for ALTER EXTENSION%' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker';
is($sandbox->count('mailingcore')->{requests}, 0, 'and nothing is sent');

$node->safe_psql('postgres', 'ALTER EXTENSION contactsync UPDATE');
$node->poll_query_until('postgres', q{SELECT backlog = 0 AND worker = 'running' FROM contactsync.status}) or die 'timed out waiting for the delivery';
is( join(' ', sort map { "$_->{externalId}$_->{attributes}{plan}" } @{ $sandbox->contacts('mailingcore', account => 'crm') }),
	'1B 3A', 'after it the worker delivers what was captured, and no more');
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'C' WHERE id = 2; CALL contactsync_wait('crm')});
is(scalar @{ $sandbox->contacts('mailingcore', account => 'crm') }, 3, 'and what comes then');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR|PANIC|terminated by signal/, 'and the log shows no accident');
done_testing();
