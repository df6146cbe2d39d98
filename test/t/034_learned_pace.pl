# A provider whose limit is below the configured pace, or is shared, teaches the worker its limit by 429s alone.

use strict;
use warnings;

use ContactSync;
use Test::More;

# Both clocks run at this speed, so that a minute of calls takes a few seconds.
my $speed = 4;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub pace { return sql("SELECT pace FROM contactsync.status WHERE server = '$_[0]'"); }

# A server of CampaignLark, which tells nothing but 429, with one contact per call.
sub prepare
{
	my ($name, $limit, %server) = @_;

	watch_customers($node, $sandbox, 'campaignlark', $name, batch_size => 1, %server);
	$sandbox->config('campaignlark', { account => $name, limits => { workspace => $limit } });
	return;
}

sub deliver
{
	my ($name, $from, $to) = @_;

	insert_customers($node, $name, $from, $to);
	sql("CALL contactsync_wait('$name')");
	return;
}

my %limits = (
	bucket => { kind => 'bucket', limit => 5, burst => 8 },
	sliding => { kind => 'sliding', limit => 50, seconds => 10 },
	fixed => { kind => 'fixed', limit => 50, seconds => 10 });

prepare($_, $limits{$_}, pace => 20) foreach sort keys %limits;
insert_customers($node, $_, 1, 300) foreach sort keys %limits;
foreach my $kind (sort keys %limits)
{
	sql("CALL contactsync_wait('$kind')");
	my $pace = pace($kind);
	my $refused = sql("SELECT count(*) FROM contactsync.calls WHERE server = '$kind' AND status = 429");
	cmp_ok($refused, '>', 0, "$kind: a pace four times too high makes calls come too fast");
	cmp_ok($refused, '<', 30, "$kind: of 330 calls few are refused");
	cmp_ok($pace, '>', 2, "$kind: the pace is not lowered far below the limit");
	cmp_ok($pace, '<', 10, "$kind: the pace is lowered");
}
is(sql(q{SELECT DISTINCT configured_pace FROM contactsync.status}), '20', 'status shows the configured pace as well');

# all calls in flight are refused at once
prepare('flying', undef, pace => 40, burst => 8, concurrency => 8);
deliver('flying', 1, 1);
$sandbox->fault('campaignlark', { match => { account => 'flying' }, times => 8, action => { status => 429, latency => 4 } });
deliver('flying', 2, 9);
my $lowered = pace('flying');
is(sql(q{SELECT count(*) FROM contactsync.calls WHERE server = 'flying' AND status = 429}), 8, 'eight calls in flight are refused');
cmp_ok($lowered, '>=', 34, 'which lowers the pace once');
cmp_ok($lowered, '<', 36, '... by a part');

# one throttle of many calls, after 300 that were accepted: it is tried again in time, and lowers the pace to no less than was accepted
prepare('long', undef, pace => 10, burst => 1);
insert_customers($node, 'long', 1, 320);
$sandbox->wait_for_contacts('campaignlark', 300, account => 'long');
$sandbox->fault('campaignlark', { match => { account => 'long' }, times => 12, action => { status => 429 } });
sql(q{CALL contactsync_wait('long')});
my ($refused, $gap, $accepted) = split /\|/, sql(qq{
	SELECT count(*) FILTER (WHERE status = 429), max(gap) FILTER (WHERE status = 429), sum(accepted) / (max(next) FILTER (WHERE status = 429) - min(at))
	FROM (SELECT status, at, next, next - at AS gap, (status < 300 AND at < max(at) FILTER (WHERE status = 429) OVER ())::int AS accepted
		FROM (SELECT status, at, lead(at) OVER (ORDER BY at) AS next
			FROM (SELECT status, $speed * extract(epoch FROM started_at) AS at FROM contactsync.calls WHERE server = 'long') c) c) c});
is($refused, 12, 'twelve calls in succession are refused');
cmp_ok($gap, '<', 20, 'which is tried again after some seconds, not each time after twice as long');
cmp_ok(pace('long'), '>', 0.9 * $accepted, '... and does not lower the pace below what was accepted before, as each of them would');
cmp_ok(pace('long'), '<', 9, '... but lowers it');

# what was learned outlives a restart, and a change of the server
my $learned = pace('bucket');
$node->restart;
deliver('bucket', 301, 301);
cmp_ok(pace('bucket'), '<', 1.2 * $learned, 'a restart does not forget what was learned');
sql(q{ALTER SERVER bucket OPTIONS (SET pace '21')});
deliver('bucket', 302, 302);
is(pace('bucket'), '21', 'a changed option does');

# where nobody else calls any more, the pace rises again to what is configured
$sandbox->config('campaignlark', { account => 'flying', limits => { workspace => undef } });
for (my $n = 0; pace('flying') < 40; $n++)
{
	die 'the pace does not rise' if $n == 20;
	deliver('flying', 10 + 400 * $n, 409 + 400 * $n);
}
is(pace('flying'), '40', 'the pace rises to what is configured while calls are not refused');

$node->stop;
done_testing();
