# The pace of calls is that of docs/providers.md while no option says otherwise, and so are the waits that providers ask for.

use strict;
use warnings;

use ContactSync;
use Test::More;

my %limits = (
	caramel => { pace => 5, burst => 1 },
	owlat => { pace => 9.8, burst => 5 },
	spotzee => { pace => 50, burst => 10 },
	mailingcore => { pace => 4.9, burst => 5 },
	campaignlark => { pace => 50, burst => 10 });
my ($sandbox, $speed);
my $node = start_node('contactsync.clock_speed' => 1);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub wait_for_all { sql("CALL contactsync_wait('$_')") foreach @_; return; }
sub clock { return $sandbox->call('GET', 'clock')->{now}; }

# Both clocks run at this speed from here on.
sub use_clock
{
	($speed) = @_;
	$sandbox = start_sandbox(clock_speed => $speed);
	$node->stop;
	$node->adjust_conf('postgresql.conf', 'contactsync.clock_speed', $speed);
	$node->start;
	return;
}

sub prepare { watch_customers($node, $sandbox, @_); return; }
sub insert { insert_customers($node, @_); return; }

# With the bucket full, insert contacts into servers of these providers, one contact per call, and check that the calls, of which
# the bucket lets a number pass at once, take the time that the pace demands.
sub check_paces
{
	my ($pause, %calls) = @_;
	my %name = map { $_ => "paced$_" } keys %calls;

	foreach my $provider (sort keys %calls)
	{
		prepare($provider, $name{$provider}, batch_size => 1);
		insert($name{$provider}, 1, 1);
	}
	wait_for_all(values %name);
	my $until = clock() + $pause;
	wait_for('full buckets', sub { clock() >= $until });
	insert($name{$_}, 2, 1 + $calls{$_}) foreach sort keys %calls;
	wait_for_all(values %name);
	foreach my $provider (sort keys %calls)
	{
		my ($pace, $burst) = @{ $limits{$provider} }{qw(pace burst)};
		my $seconds = $speed * sql(qq{SELECT extract(epoch FROM max(started_at) - min(started_at))
			FROM (SELECT started_at FROM contactsync.calls WHERE server = '$name{$provider}' ORDER BY id OFFSET 1) c});

		is($sandbox->count($provider, account => $name{$provider})->{requests}, 1 + $calls{$provider}, "$provider: one call per contact");
		cmp_ok($seconds, '>=', 0.95 * ($calls{$provider} - $burst) / $pace, "$provider: $calls{$provider} calls in $seconds s");
		is(sql("SELECT pace FROM contactsync.status WHERE server = '$name{$provider}'"), $pace, "$provider: the pace in status");
	}
	return;
}

use_clock(1);
# at a pace that stays without effect when each refusal lowers it
prepare('campaignlark', 'jittery', pace => 10000, burst => 100);
$sandbox->fault('campaignlark', { match => { account => 'jittery' }, times => 12, action => { status => 429, retry_after => '0' } });
insert('jittery', 1, 1);
prepare('campaignlark', 'tomorrow');
$sandbox->fault('campaignlark', { match => { account => 'tomorrow' }, action => { status => 429, retry_after => 86400 } });
insert('tomorrow', 1, 1);
check_paces(2.5, campaignlark => 110, spotzee => 110, owlat => 25);

# a wait is prolonged by up to half a second at random: with Retry-After 0, twelve waits are nothing but that. Without it they are
# as long as it takes to answer; by chance they are that short once in 50 million times
wait_for_all('jittery');
my $waits = sql(q{SELECT extract(epoch FROM max(started_at) - min(started_at)) - extract(epoch FROM sum(duration)) FROM contactsync.calls WHERE server = 'jittery'});
is($sandbox->count('campaignlark', account => 'jittery')->{requests}, 13, 'a call is refused twelve times');
cmp_ok($waits, '>', 0.6, "the waits have jitter ($waits s)");

# nobody is waited for for longer than an hour
$node->poll_query_until('postgres', q{SELECT state = 'throttled' FROM contactsync.status WHERE server = 'tomorrow'}) or die 'timed out waiting for a throttle';
is( sql(q{SELECT until > c.started_at + interval '59 min 59 s' AND until < clock_timestamp() + interval '1 h 1 s'
	FROM contactsync.status JOIN contactsync.calls c USING (server) WHERE server = 'tomorrow'}),
	't', 'Retry-After of a day is limited to an hour');

# those that are slower, on a faster clock
use_clock(10);
check_paces(12, caramel => 21, mailingcore => 25);
$sandbox->fault('caramel', { match => { account => 'pacedcaramel' }, action => { status => 429, retry_after => '1' } });
insert('pacedcaramel', 100, 100);
wait_for_all('pacedcaramel');
is(sql(q{SELECT pace FROM contactsync.status WHERE server = 'pacedcaramel'}), '3', 'caramel: three calls a second after the first 429');

$node->stop;
done_testing();
