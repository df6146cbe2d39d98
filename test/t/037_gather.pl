# While changes come one by one they are sent at once; when they come fast, those of a few milliseconds are sent together.

use strict;
use warnings;

use ContactSync;
use Test::More;

# "fast" is within 10 s then, and 5 s are gathered
my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => '0.001');

sub requests { return $sandbox->count('mailingcore')->{requests}; }

watch_customers($node, $sandbox, 'mailingcore', 'fast', pace => 10000, burst => 10000);
foreach my $n (1 .. 9)
{
	insert_customers($node, 'fast', $n, $n);
	$sandbox->wait_for_contacts('mailingcore', $n, account => 'fast');
}
is(requests(), 9, 'the first changes are sent one by one');

$node->safe_psql('postgres', q{DO $$ BEGIN FOR n IN 10 .. 40 LOOP INSERT INTO fast VALUES (n, n || '@example.com'); COMMIT; PERFORM pg_sleep(0.02); END LOOP; END $$});
$sandbox->wait_for_contacts('mailingcore', 40, account => 'fast');
cmp_ok(requests(), '<=', 9 + 3, '31 changes that follow fast are sent together');
$node->safe_psql('postgres', q{CALL contactsync_wait('fast')});
is($node->safe_psql('postgres', q{SELECT synced || ' ' || backlog || ' ' || failures FROM contactsync.status}), '40 0 0', 'all have their outcome');

$node->stop;
done_testing();
