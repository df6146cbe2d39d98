# While changes come one by one they are sent at once; when they come fast, those of a few milliseconds are sent together.

use strict;
use warnings;

use ContactSync;
use Test::More;

# "fast" is within 5 s then, 10 s are gathered, and counts are stored after 500 s
my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => '0.002');

sub requests { return $sandbox->count('mailingcore')->{requests}; }

# how many were sent, as the statistics say that are kept minute by minute
sub counted { return $node->safe_psql('postgres', q{SELECT sum(s.synced) FROM contactsync.stat s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = 'fast' AND NOT s.base}); }

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
is(counted(), 40, 'and are counted, as nothing follows');

# what is fast is counted later, unless nothing follows
watch_customers($node, $sandbox, 'mailingcore', 'slow', pace => 10000, burst => 10000);
$sandbox->fault('mailingcore', { match => { account => 'slow' }, action => { stall => \1 } });
insert_customers($node, 'slow', 1, 1);
insert_customers($node, 'fast', 41, 45);
$node->safe_psql('postgres', q{CALL contactsync_wait('fast')});
is($node->safe_psql('postgres', q{SELECT synced FROM contactsync.status WHERE server = 'fast'}), 45, 'while another call is under way, more are sent');
is(counted(), 40, 'which are not counted yet');
$sandbox->clear_faults('mailingcore', account => 'slow');
ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.changes)}), 'when all are sent');
is(counted(), 45, 'they are counted');

$node->stop;
done_testing();
