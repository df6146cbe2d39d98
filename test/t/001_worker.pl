# Smoke test: a row is inserted, and the worker sends it to the provider.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'mailingcore');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'mailingcore', '{"email": "email", "external_id": "id"}');
	INSERT INTO customers VALUES (1, 'Jane@Example.com');
});

$sandbox->wait_for_contacts('mailingcore', 1);
my ($contact) = @{ $sandbox->contacts('mailingcore') };
is($contact->{email}, 'jane@example.com', 'the address arrives in lower case');
is($contact->{externalId}, '1', 'the external id arrives');

$node->poll_query_until('postgres', 'SELECT synced = 1 AND backlog = 0 FROM contactsync.status')
  or die 'timed out waiting for the outcome';
is($node->safe_psql('postgres', 'SELECT state, worker FROM contactsync.status'), 'idle|running', 'status shows the delivery');

$sandbox->stop;
$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/mc_test_sandbox/, 'the log contains no secret');

done_testing();
