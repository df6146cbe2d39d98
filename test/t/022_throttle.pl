# The worker waits for as long as a provider asks, and throttled calls do not count as retries.

use strict;
use warnings;

use ContactSync;
use Test::More;

# Both clocks run at this speed, so that they can be compared.
my $speed = 10;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub prepare
{
	my ($name, $provider, %server) = @_;

	create_server($node, $sandbox, $provider, account => $name, server => { pace => 1000, burst => 1000, max_retries => 1, %server });
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (email text PRIMARY KEY, consent boolean NOT NULL DEFAULT false);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "opt_in": "consent"}');
	});
	return;
}

sub throttle
{
	my ($name, $times, $action) = @_;

	$sandbox->fault('campaignlark', { match => { account => $name }, times => $times, action => { status => 429, %$action } });
	return;
}

# Return the times between consecutive requests, on the sandbox's clock, once everything is delivered.
sub gaps
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CALL contactsync_wait('$name')");
	my @at = map { $_->{clock} } @{ $sandbox->journal('campaignlark', account => $name) };
	return map { $at[$_] - $at[ $_ - 1 ] } 1 .. $#at;
}

# Return the longest of the waits that a fault with these calls causes. A machine under load may prolong a wait, but not each
# time: cause them again, up to five times, unless all are shorter than a maximum.
sub longest_wait
{
	my ($name, $max, $times, $action) = @_;
	my $longest;

	foreach my $try (1 .. 5)
	{
		my @gaps = gaps($name);
		($longest) = sort { $b <=> $a } @gaps[ -$times .. -1 ];
		last if $longest < $max;
		throttle($name, $times, $action);
		$node->safe_psql('postgres', "INSERT INTO $name VALUES ('again$try\@example.com')");
	}
	return $longest;
}

# the same limit announced in different ways, by servers that do not wait for each other
prepare('bounded', 'campaignlark', max_retry_after => '15s');
throttle('bounded', 1, { retry_after => 86400 });
prepare($_, 'campaignlark') foreach 'seconds', 'date', 'zero', 'reset', 'silent', 'other';
throttle('seconds', 1, { retry_after => 20 });
throttle('date', 1, { retry_after => 'date:+20' });
throttle('zero', 4, { retry_after => '0' });
my $reset = int($sandbox->call('GET', 'clock')->{now} + 80);
throttle('reset', 1, { headers => { 'X-RateLimit-Reset' => "$reset" } });
throttle('silent', 4, {});
$node->safe_psql('postgres', join(';', map { "INSERT INTO $_ VALUES ('a\@example.com')" } 'seconds', 'date', 'zero', 'reset', 'silent', 'bounded'));

$node->poll_query_until('postgres', q{SELECT state = 'throttled' FROM contactsync.status WHERE server = 'reset'})
  or die 'timed out waiting for a throttle';
like(
	$node->safe_psql('postgres', q{SELECT reason, until > now(), failures FROM contactsync.status WHERE server = 'reset'}),
	qr/^too many requests.*\|t\|0$/, 'status shows that a server is throttled, and until when');
$node->safe_psql('postgres', q{INSERT INTO other VALUES ('a@example.com'); CALL contactsync_wait('other')});
is($node->safe_psql('postgres', q{SELECT state FROM contactsync.status WHERE server = 'reset'}), 'throttled', 'other servers continue meanwhile');

my $gap = longest_wait('seconds', 30, 1, { retry_after => 20 });
ok($gap >= 20 && $gap < 30, "Retry-After in seconds ($gap)");
$gap = longest_wait('date', 30, 1, { retry_after => 'date:+20' });
ok($gap >= 19 && $gap < 30, "Retry-After as a date ($gap)");
is(scalar(my @gaps = gaps('zero')), 4, 'Retry-After 0 allows an immediate retry');
$gap = longest_wait('zero', 5, 4, { retry_after => '0' });
cmp_ok($gap, '<', 5, "the retries follow at once ($gap)");
$gap = longest_wait('bounded', 25, 1, { retry_after => 86400 });
ok($gap >= 14 && $gap < 25, "Retry-After of a day is limited by max_retry_after ($gap)");
gaps('reset');
cmp_ok($sandbox->journal('campaignlark', account => 'reset')->[1]{clock}, '>=', $reset, 'X-RateLimit-Reset');
@gaps = gaps('silent');
ok($gaps[0] >= 0.5 && $gaps[3] >= 4, "without a header each wait is longer (@gaps)");

is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');
is($node->safe_psql('postgres', q{SELECT max(attempt) FROM contactsync.calls}), '1', 'throttled calls do not count as retries');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT verdict, ',' ORDER BY verdict) FROM contactsync.calls}), 'done,throttled', 'a throttle is not an error');
is( $node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state || COALESCE(reason, ''), ',') FROM contactsync.status}),
	'idle', 'every server is idle again');

# a realistic limit of calls per minute, which announces the end of the minute
prepare('minute', 'mailingcore', batch_size => 1, concurrency => 1);
$sandbox->config('mailingcore', { account => 'minute', limits => { client => { kind => 'fixed', limit => 5, seconds => 10 } } });
$node->safe_psql(
	'postgres', q{
	INSERT INTO minute SELECT format('c%s@example.com', g) FROM generate_series(1, 17) g;
	CALL contactsync_wait('minute');
});
my $count = $sandbox->count('mailingcore', account => 'minute');
is($count->{contacts}, 17, 'all contacts arrive despite a limit of calls per minute');
is($count->{rate_limited}, 3, 'one call per minute is refused');
is($node->safe_psql('postgres', q{SELECT failures FROM contactsync.status WHERE server = 'minute'}), '0', 'no contact fails because of the limit');

# a throttle survives a restart
prepare('later', 'campaignlark');
prepare('sooner', 'campaignlark');
throttle('later', 1, { retry_after => 100 });
$node->safe_psql('postgres', q{INSERT INTO later VALUES ('a@example.com')});
$node->poll_query_until('postgres', q{SELECT state = 'throttled' FROM contactsync.status WHERE server = 'later'})
  or die 'timed out waiting for a throttle';
$node->stop;
$node->start;
$node->safe_psql('postgres', q{INSERT INTO sooner VALUES ('a@example.com'); CALL contactsync_wait('sooner')});
is($sandbox->count('campaignlark', account => 'later')->{requests}, 1, 'after a restart a throttled server is not called, while others are');
is($node->safe_psql('postgres', q{SELECT state, reason LIKE 'too many requests%', until > now() FROM contactsync.status WHERE server = 'later'}),
	'throttled|t|t', 'status still shows the reason');
($gap) = gaps('later');
cmp_ok($gap, '>=', 100, "the wait is not cut short ($gap)");
throttle('later', 1, { retry_after => 3600 });
$node->safe_psql('postgres', q{INSERT INTO later VALUES ('b@example.com')});
$node->poll_query_until('postgres', q{SELECT state = 'throttled' FROM contactsync.status WHERE server = 'later'})
  or die 'timed out waiting for a throttle';
$node->safe_psql('postgres', q{ALTER SERVER later OPTIONS (SET pace '999'); CALL contactsync_wait('later')});
is($sandbox->count('campaignlark', account => 'later')->{contacts}, 2, 'a changed option ends the wait');

$node->stop;
done_testing();
