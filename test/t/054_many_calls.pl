# A server whose provider stalls has more calls in flight than there are file descriptors for them: the worker does not run out
# of them, and another server delivers.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub sql { return $node->safe_psql('postgres', $_[0]); }

watch_customers($node, $sandbox, 'mailingcore', 'stalling', pace => 10000, burst => 10000, concurrency => 1000, batch_size => 1, timeout => '1h');
watch_customers($node, $sandbox, 'mailingcore', 'other');
$sandbox->fault('mailingcore', { match => { account => 'stalling' }, times => undef, action => { stall => \1 } });
insert_customers($node, 'stalling', 1, 1000);
wait_for('many calls to be in flight', sub { $sandbox->count('mailingcore', account => 'stalling')->{requests} > 100 });
insert_customers($node, 'other', 1, 1);
$node->poll_query_until('postgres', q{SELECT synced = 1 OR EXISTS (SELECT FROM contactsync.calls WHERE error IS NOT NULL)
	FROM contactsync.status WHERE server = 'other'}) or die 'timed out waiting for another server to deliver';
is(sql(q{SELECT synced, backlog FROM contactsync.status WHERE server = 'other'}), '1|0', 'another server delivers');
is(sql(q{SELECT error FROM contactsync.calls WHERE error IS NOT NULL LIMIT 1}), '', 'no call fails for want of a file descriptor');
$sandbox->clear_faults('mailingcore', account => 'stalling');
sql(q{CALL contactsync_wait('stalling')});
is(scalar @{ $sandbox->contacts('mailingcore', account => 'stalling') }, 1000, 'and so does the first one, when its provider answers');
is(sql(q{SELECT error FROM contactsync.calls WHERE error IS NOT NULL LIMIT 1}), '', 'without an error');

$node->stop;
done_testing();
