# One contact that draws a page of a firewall halts nobody; and a provider that refuses everybody in words that it never used
# before does not burn the queue.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 50;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '20s', 'restart_after_crash' => 'on');
sub sql { return $node->safe_psql('postgres', $_[0]); }

my %mapping = (
	caramel => '{"email": "email"}',
	owlat => '{"email": "email"}',
	spotzee => '{"external_id": "id", "email": "email"}',
	mailingcore => '{"external_id": "id", "email": "email"}',
	campaignlark => '{"email": "email"}');

sub prepare
{
	my ($name, $provider, $rows, %options) = @_;

	create_server($node, $sandbox, $provider, account => $name,
		server => { pace => 1000, burst => 1000, $provider eq 'campaignlark' ? (new_contacts => 'subscribed') : (), %options });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('$name', '$name', '$mapping{$provider}');
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, $rows) g});
	return;
}

sub state_is
{
	my ($name, $state, $what) = @_;

	$node->poll_query_until('postgres', qq{SELECT concat_ws('|', state, failures) = '$state' FROM contactsync.status WHERE server = '$name'})
	  or die "timed out waiting for $name: $state, it is " . sql(qq{SELECT state, failures, backlog, reason FROM contactsync.status WHERE server = '$name'});
	pass("$name: $what");
	return;
}

# ---------- one contact, a page of whatever is in between ----------

my @pages = (
	[ 'a firewall', { status => 403, html => '<html><title>Blocked</title>' } ],
	[ 'a firewall that writes no page', { status => 403, body => 'blocked' } ],
	[ 'a body that is too long', { status => 413, html => '<html><title>413 Request Entity Too Large</title>' } ],
	[ 'a page that is not there', { status => 404, html => \1 } ]);

foreach my $provider (sort keys %mapping)
{
	my ($what, $action) = @{ shift @pages };
	my $name = "page$provider";

	push @pages, [ $what, $action ];
	$sandbox->fault($provider, { match => { account => $name, email => 'c7@example.com' }, times => undef, action => $action });
	if ($mapping{$provider} =~ /external_id/)
	{
		$sandbox->fault($provider, { match => { account => $name, key => '7' }, times => undef, action => $action });
	}
	prepare($name, $provider, 30);
	sql("CALL contactsync_wait('$name')");
	is(sql(qq{SELECT key, reason FROM contactsync.failures WHERE server = '$name'}), '7|rejected', "$provider: $what: the contact fails");
	is($sandbox->count($provider, account => $name)->{contacts}, 29, 'all others have arrived');
	is(sql(qq{SELECT state FROM contactsync.status WHERE server = '$name'}), 'idle', 'the server is not halted');
	$sandbox->clear_faults($provider, account => $name);
}

# everybody: the server is halted, and no contact fails
$sandbox->fault('mailingcore', { match => { account => 'wall' }, times => undef, action => { status => 403, html => '<html><title>Blocked</title>' } });
prepare('wall', 'mailingcore', 60);
state_is('wall', 'halted|0', 'a firewall that blocks everybody halts the server');
like(sql(q{SELECT reason FROM contactsync.status WHERE server = 'wall'}), qr/^not_the_api: a web page answers/, 'with the reason');
$sandbox->clear_faults('mailingcore', account => 'wall');
state_is('wall', 'idle|0', 'a probe finds when that is over');

# a contact that is alone: another one that comes is tried, and shows that it is the contact
$sandbox->fault('owlat', { match => { account => 'lonelyone', email => 'c1@example.com' }, times => undef, action => { status => 403, html => '<html>' } });
prepare('lonelyone', 'owlat', 1, max_retries => 1);
sql(q{ALTER SYSTEM SET contactsync.probe_interval = '1d'; SELECT pg_reload_conf()});
state_is('lonelyone', 'halted|0', 'a contact that cannot be compared halts the server');
sql(q{INSERT INTO lonelyone VALUES (2, 'c2@example.com')});
$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM contactsync.contacts WHERE server = 'lonelyone' AND key = '2')}) or die 'timed out waiting for the other contact';
pass('another contact is tried at once');
my $log = -s $node->logfile;
sql(q{ALTER SYSTEM SET contactsync.probe_interval = '20s'; SELECT pg_reload_conf()});
$node->wait_for_log(qr/parameter "contactsync.probe_interval" changed to "20s"/, $log);
sql(q{ALTER SERVER lonelyone OPTIONS (SET pace '999')});
state_is('lonelyone', 'idle|1', 'then it fails');

# ---------- everybody is refused, in words ----------

my %refusal = (
	caramel => { body => '{"jsonrpc": "2.0", "error": {"code": "no_more", "message": "Contacts are not available on your current plan"}}' },
	owlat => { status => 400, body => '{"error": {"category": "no_more", "message": "Contacts are not available on your current plan"}}' },
	spotzee => { status => 400, body => '{"code": "no_more", "message": "Contacts are not available on your current plan"}' },
	mailingcore => { status => 400, body => '{"message": "Contacts are not available on your current plan"}' },
	campaignlark => { status => 400, body => '{"error": {"message": "Contacts are not available on your current plan"}}' });

sub refuse
{
	my ($provider, $name) = @_;

	$sandbox->fault($provider, { match => { account => $name }, times => undef, action => $refusal{$provider} });
	return;
}

foreach my $provider (sort keys %mapping)
{
	my $name = "all$provider";

	refuse($provider, $name);
	prepare($name, $provider, 70);
	state_is($name, 'halted|20', 'the server is halted after 20 refusals');
	like(sql(qq{SELECT reason FROM contactsync.status WHERE server = '$name'}),
		qr/^refused_alike: contacts are refused alike( \(no_more\))?: Contacts are not available on your current plan$/, 'with the reason');
}

# probes burn nothing, nor does a new process, nor an option that does not help
my $count = sub { $sandbox->count('caramel', account => 'allcaramel')->{requests} };
my $before = $count->();
wait_for('probes', sub { $count->() > $before + 3 });
state_is('allcaramel', 'halted|20', 'what a probe is told makes no contact fail');
$count = sub { $sandbox->count('mailingcore', account => 'allmailingcore')->{requests} };
crash_worker($node, 'postgres');
$before = $count->();
wait_for('calls after the crash', sub { $count->() > $before + 3 });
state_is('allmailingcore', 'halted|20', 'nor a call after a crash');
sql(q{ALTER SERVER allmailingcore OPTIONS (SET pace '999')});
$before = $count->();
wait_for('calls after the option', sub { $count->() > $before + 3 });
state_is('allmailingcore', 'halted|20', 'nor one with another option');

# it goes on by itself when somebody is accepted; what was refused can be retried
foreach my $provider (qw(caramel spotzee))
{
	$sandbox->clear_faults($provider, account => "all$provider");
	$node->poll_query_until('postgres', qq{SELECT state = 'idle' FROM contactsync.status WHERE server = 'all$provider'})
	  or die "timed out waiting for a probe of $provider";
	sql("SELECT contactsync_retry('all$provider'); CALL contactsync_wait('all$provider')");
	is($sandbox->count($provider, account => "all$provider")->{contacts}, 70, 'all arrive');
}

# or by a word: the contacts are at fault
my $hint = sql(q{SELECT hint FROM contactsync.status WHERE server = 'allowlat'});
my ($command) = $hint =~ /(SELECT contactsync_resume\('allowlat'\))/ or die "no command in $hint";
sql($command);
state_is('allowlat', 'idle|70', 'contactsync_resume() has all of them fail');
$sandbox->clear_faults('owlat', account => 'allowlat');
sql(q{INSERT INTO allowlat VALUES (100, 'c100@example.com'); CALL contactsync_wait('allowlat')});
refuse('owlat', 'allowlat');
my $attempts = sql(q{SELECT sum(attempts) FROM contactsync.failures WHERE server = 'allowlat'});
sql(q{SELECT contactsync_retry('allowlat')});
state_is('allowlat', 'halted|70', 'until there is a success');
is(sql(q{SELECT sum(attempts) FROM contactsync.failures WHERE server = 'allowlat'}), $attempts + 20, 'then 20 fail again');

# the option
sql(q{ALTER SERVER allcampaignlark OPTIONS (ADD refusal_guard '30')});
state_is('allcampaignlark', 'halted|20', 'what was refused alike before still counts');
sql(q{ALTER SERVER allcampaignlark OPTIONS (SET refusal_guard '0')});
state_is('allcampaignlark', 'idle|70', 'refusal_guard 0 has all of them fail');

# a success between
$sandbox->fault('mailingcore', { match => { account => 'mixed' }, times => undef, action => { reject_items => { map { ("c$_\@example.com" => { message => 'no' }) } grep { $_ % 15 } 1 .. 90 } } });
prepare('mixed', 'mailingcore', 90, batch_size => 1, concurrency => 1);
state_is('mixed', 'idle|84', 'contacts that fail between others do not halt the server');

$node->stop;
done_testing();
