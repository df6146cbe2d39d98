# Calls keep to the limits of docs/providers.md while no option says otherwise: how many at once, how large, how long, and how often
# again. Their pace is that of 029_pace.

use strict;
use warnings;

use ContactSync;
use IO::Socket::INET;
use Test::More;

my %limits = (
	caramel => { concurrency => 2, max_retries => 3, batch_size => 1 },
	owlat => { concurrency => 5, max_retries => 3, batch_size => 1 },
	spotzee => { concurrency => 4, max_retries => 5, batch_size => 100 },
	mailingcore => { concurrency => 4, max_retries => 5, batch_size => 1000 },
	campaignlark => { concurrency => 10, max_retries => 5, batch_size => 1 });
my $speed = 30;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub wait_for_all { sql("CALL contactsync_wait('$_')") foreach @_; return; }
sub clock { return $sandbox->call('GET', 'clock')->{now}; }
sub prepare { watch_customers($node, $sandbox, @_); return; }
sub insert { insert_customers($node, @_); return; }

# as many calls in flight as allowed, while none is answered; and although there is time for more
foreach my $provider (sort keys %limits)
{
	prepare($provider, "many$provider", batch_size => 1, timeout => '1h');
	$sandbox->fault($provider, { match => { account => "many$provider" }, times => undef, action => { stall => \1 } });
	insert("many$provider", 1, 3 * $limits{$provider}{concurrency});
}
foreach my $provider (sort keys %limits)
{
	my $count = sub { return $sandbox->count($provider, account => "many$provider"); };

	wait_for("calls in flight to $provider", sub { $count->()->{max_in_flight} >= $limits{$provider}{concurrency} });
}
my $until = clock() + 12;
wait_for('more calls', sub { clock() >= $until });
foreach my $provider (sort keys %limits)
{
	is($sandbox->count($provider, account => "many$provider")->{max_in_flight}, $limits{$provider}{concurrency}, "$provider: calls in flight");
	$sandbox->clear_faults($provider);
}
wait_for_all(map { "many$_" } sort keys %limits);

# as many contacts in a call as allowed
foreach my $provider (sort keys %limits)
{
	prepare($provider, "large$provider");
	insert("large$provider", 1, $limits{$provider}{batch_size} + 1);
	wait_for_all("large$provider");
	is(sql("SELECT max(contacts) FROM contactsync.calls WHERE server = 'large$provider'"), $limits{$provider}{batch_size}, "$provider: contacts in a call");
}

# a contact for which the provider fails, while it takes another one that is in flight, is tried again as often as allowed
foreach my $provider (sort keys %limits)
{
	my $of = sub { return { account => "large$provider", $provider eq 'spotzee' ? (key => "$_[0]") : (email => "$_[0]\@example.com") } };
	my $fail = sub { $sandbox->fault($provider, { match => $of->(5001), times => undef, action => { status => 503, retry_after => 40 } }) };

	sql("ALTER SERVER large$provider OPTIONS (ADD batch_size '1', ADD timeout '1h')");
	$fail->();
	$sandbox->fault($provider, { match => $of->(5002), action => { stall => \1 } });
	insert("large$provider", 5002, 5002);
	$sandbox->wait_for_journal($provider, sub { $_[-1]{in_flight} }, account => "large$provider");
	insert("large$provider", 5001, 5001);
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM contactsync.calls WHERE server = 'large$provider' AND status = 503") or die 'timed out waiting for a failure';
	$sandbox->clear_faults($provider);
	$fail->();
}
foreach my $provider (sort keys %limits)
{
	wait_for_all("large$provider");
	is( sql("SELECT key, reason, attempts FROM contactsync.failures WHERE server = 'large$provider'"),
		'5001|unavailable|' . (1 + $limits{$provider}{max_retries}),
		"$provider: retries");
}

# a call that is not answered ends after the timeout: after one whose timeout is shorter, and before one whose timeout is longer
sub check_timeout
{
	my ($option, $shorter, $longer, %server) = @_;
	my %timeout = (shorter => $shorter, preset => undef, longer => $longer);

	foreach my $name (sort keys %timeout)
	{
		prepare('campaignlark', "${name}_$option", %server, defined $timeout{$name} ? ($option => $timeout{$name}) : ());
		$sandbox->fault('campaignlark', { match => { account => "${name}_$option" }, times => undef, action => { stall => \1 } });
	}
	insert("${_}_$option", 1, 1) foreach sort keys %timeout;
	$node->poll_query_until('postgres', "SELECT count(DISTINCT server) = 3 FROM contactsync.calls WHERE server LIKE '%\\_$option'") or die "timed out waiting for $option";
	is( sql(qq{SELECT string_agg(split_part(server, '_', 1), ' ' ORDER BY ends_at) FROM (
			SELECT DISTINCT ON (server) server, started_at + duration AS ends_at FROM contactsync.calls WHERE server LIKE '%\\_$option' ORDER BY server, id) c}),
		'shorter preset longer',
		"preset of $option");
	sql("SELECT contactsync_pause('${_}_$option')") foreach sort keys %timeout;
	return;
}

check_timeout('timeout', '22s', '42s');

# a socket that accepts no connection, once those that wait to be accepted are as many as can
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1, Proto => 'tcp') or die "could not listen: $!";
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $listener->sockport, Blocking => 0) } 1 .. 4;
check_timeout('connect_timeout', '6s', '18s', base_url => 'http://127.0.0.1:' . $listener->sockport);
is(sql(q{SELECT count(*) FROM contactsync.calls WHERE server LIKE '%connect\_timeout' AND error !~* 'connect'}), '0', 'these calls are not connected');

$node->stop;
done_testing();
