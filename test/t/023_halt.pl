# A configuration error causes no failures: all changes stay queued, status names the error, and delivery resumes when it is
# corrected.

use strict;
use warnings;

use ContactSync;
use Test::More;

# Disable probes, except where the test enables them.
my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '1d');
my $rows = 30;

sub status
{
	my ($name) = @_;

	return $node->safe_psql('postgres',
		qq{SELECT concat_ws('|', state, backlog, failures, reason) FROM contactsync.status WHERE server = '$name'});
}

# Create a server and a table with rows, with an error from the beginning.
sub prepare
{
	my ($name, $provider, %param) = @_;

	create_server($node, $sandbox, $provider, account => $name,
		server => { pace => 1000, burst => 1000, %{ $param{server} // {} } }, mapping => $param{mapping} // {});
	$sandbox->config($provider, { account => $name, %{ $param{config} } }) if $param{config};
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (email text PRIMARY KEY, consent boolean NOT NULL DEFAULT false, plan text DEFAULT 'free');
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "opt_in": "consent", "attributes": {"@{[$param{attribute} // 'plan']}": "plan"}}');
		INSERT INTO $name SELECT format('c%s\@example.com', g) FROM generate_series(1, $rows) g;
		@{[$param{sql} // '']}
	});
	return;
}

sub halts
{
	my ($name, $provider, $reason) = @_;

	$node->poll_query_until('postgres', qq{SELECT state IN ('halted', 'broken') FROM contactsync.status WHERE server = '$name'})
	  or die "timed out waiting for $name to halt";
	like(status($name), qr/^\w+\|$rows\|0\|$reason/, "$name: the server halts with the reason");
	is($sandbox->count($provider, account => $name)->{contacts}, 0, 'nothing was delivered');
	return;
}

sub recovers
{
	my ($name, $provider, $sql, $account) = @_;

	$node->safe_psql('postgres', "$sql; CALL contactsync_wait('$name')");
	is(status($name), 'idle|0|0', "$name: delivery resumes after: $sql");
	is($sandbox->count($provider, account => $account // $name)->{contacts}, $rows, 'all queued changes are delivered');
	return;
}

# wrong keys, tenants, addresses and URLs
prepare('key', 'mailingcore', mapping => { api_key => 'mc_test_wrong' });
prepare('tenant', 'mailingcore', server => { tenant_id => 'nobody' });
prepare('scope', 'mailingcore', config => { keys => { mc_test_scope => { scopes => ['contacts:read'] } } });
prepare('address', 'campaignlark', config => { keys => { cl_address => { addresses => ['192.0.2.1'] }, cl_other => {} } });
prepare('url', 'campaignlark', server => { base_url => $sandbox->url . '/campaignlark/v9' });
prepare('path', 'campaignlark', server => { base_url => $sandbox->url . '/nothing' });
# drop the user mapping while it is in use
$sandbox->fault('mailingcore', { match => { account => 'unmapped' }, times => undef, action => { status => 503 } });
prepare('unmapped', 'mailingcore', sql => 'DROP USER MAPPING FOR CURRENT_USER SERVER unmapped');
prepare('tag', 'campaignlark', attribute => 'shoe_size');
$sandbox->fault('mailingcore', { match => { account => 'moved' }, times => undef, action => { redirect => 'https://example.com/' } });
prepare('moved', 'mailingcore');

halts('key', 'mailingcore', 'unauthorized: MailingCore does not accept the API key');
halts('tenant', 'mailingcore', 'wrong_tenant: .*not authorized for this tenant');
halts('scope', 'mailingcore', 'missing_scope: .*contacts:write');
halts('address', 'campaignlark', 'address_not_allowed: .*Your IP address');
halts('url', 'campaignlark', 'wrong_url: ');
halts('path', 'campaignlark', 'wrong_url: ');
halts('tag', 'campaignlark', 'CampaignLark has no field with the merge tag "shoe_size": create it there');
halts('moved', 'mailingcore', 'redirected: .*https://example.com/');
halts('unmapped', 'mailingcore', 'configuration: user mapping not found for .*Use CREATE USER MAPPING FOR');

# halted servers make no calls, however much is queued
my $requests = sub { $sandbox->count('mailingcore')->{requests} + $sandbox->count('campaignlark')->{requests} };
my $before = $requests->();
$node->safe_psql('postgres', join(';', map { "UPDATE $_ SET plan = 'gold'" } qw(key tenant scope address url path tag moved unmapped)));
create_server($node, $sandbox, 'mailingcore', account => 'well');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE well (email text PRIMARY KEY);
	SELECT contactsync_watch('well', 'well', '{"email": "email"}');
	INSERT INTO well VALUES ('a@example.com');
	CALL contactsync_wait('well');
});
is($sandbox->count('mailingcore', account => 'well')->{contacts}, 1, 'a working server continues');
is($requests->(), $before + 1, 'halted servers make no calls');
cmp_ok($node->safe_psql('postgres', 'SELECT max(n) FROM (SELECT sum(contacts) AS n FROM contactsync.calls GROUP BY server) c'),
	'<=', 4 * $rows, 'halted servers made few calls before');

# correct each error
recovers('key', 'mailingcore', q{ALTER USER MAPPING FOR CURRENT_USER SERVER key OPTIONS (SET api_key 'mc_test_key')});
recovers('tenant', 'mailingcore', q{ALTER SERVER tenant OPTIONS (SET tenant_id 'tenant')});
recovers('address', 'campaignlark', q{ALTER USER MAPPING FOR CURRENT_USER SERVER address OPTIONS (SET api_key 'cl_other')});
recovers('url', 'campaignlark', qq{ALTER SERVER url OPTIONS (SET base_url '@{[$sandbox->url]}/campaignlark/v1')});
recovers('path', 'campaignlark', qq{ALTER SERVER path OPTIONS (SET base_url '@{[$sandbox->url]}/campaignlark/v1')});
recovers('tag', 'campaignlark', q{ALTER SERVER tag OPTIONS (ADD drop_unknown_fields 'true')});

$sandbox->clear_faults('mailingcore');
recovers('moved', 'mailingcore', qq{ALTER SERVER moved OPTIONS (SET base_url '@{[$sandbox->url]}/mailingcore/')});
recovers('unmapped', 'mailingcore', q{CREATE USER MAPPING FOR CURRENT_USER SERVER unmapped OPTIONS (api_key 'mc_test_unmapped')});

# corrections at the provider are not announced: any changed option causes a new attempt
$sandbox->config('mailingcore', { account => 'scope', keys => { mc_test_scope => { scopes => ['contacts:write'] } } });
recovers('scope', 'mailingcore', q{ALTER SERVER scope OPTIONS (ADD concurrency '2')});

# a probe with one contact also finds such corrections
$node->safe_psql('postgres', q{ALTER SYSTEM SET contactsync.probe_interval = '20s'; SELECT pg_reload_conf()});
prepare('quota', 'mailingcore', config => { quota => { limit => 100, used => 120, percentage => 120 } });
halts('quota', 'mailingcore', 'quota_exceeded: ');
my @calls = @{ $sandbox->wait_for_journal('mailingcore', sub { @_ > 4 && [@_] }, account => 'quota') };
is_deeply([ map { scalar @{ $_->{keys} } } @calls[ 1 .. 4 ] ], [ 1, 1, 1, 1 ], 'a halted server is probed with a single contact');
my @gaps = sort { $a <=> $b } map { $calls[$_]{clock} - $calls[ $_ - 1 ]{clock} } 1 .. 4;
cmp_ok($gaps[0], '>=', 19, "probes follow the interval (@gaps)");
$sandbox->config('mailingcore', { account => 'quota', quota => undef });
$node->poll_query_until('postgres', q{SELECT state = 'idle' AND backlog = 0 FROM contactsync.status WHERE server = 'quota'})
  or die 'timed out waiting for the quota to be found';
is($sandbox->count('mailingcore', account => 'quota')->{contacts}, $rows, 'delivery resumes when the probe succeeds');
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'no contact failed during this test');

$node->stop;
done_testing();
