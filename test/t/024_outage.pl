# If a provider is down, for however long, no contact fails. A contact that always fails while others succeed
# becomes a failure, and does not delay others meanwhile.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 100);

sub prepare
{
	my ($name, $at, $provider, %server) = @_;

	create_server($node, $at, $provider, account => $name, server => { pace => 1000, burst => 1000, max_retries => 2, %server });
	my $mapping = { spotzee => '"external_id": "id"', map { $_ => '"first_name": "email"' } 'caramel', 'owlat' }->{$provider} // '"opt_in": "consent"';

	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, consent boolean NOT NULL DEFAULT false);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", $mapping}');
	});
	return;
}

sub status
{
	my ($name) = @_;

	return $node->safe_psql('postgres', qq{SELECT concat_ws('|', state, backlog, failures, reason) FROM contactsync.status WHERE server = '$name'});
}

# return the attempts of failed calls of a server
sub attempts
{
	my ($name) = @_;

	return $node->safe_psql('postgres', qq{SELECT count(*) FROM contactsync.calls WHERE server = '$name' AND verdict = 'retry'});
}

# down: it answers 503, or it does not answer at all
my $gone = start_sandbox();
my ($port) = $gone->url =~ /:(\d+)/;

prepare('down', $sandbox, 'mailingcore');
prepare('refusing', $gone, 'mailingcore');
prepare('single', $sandbox, 'campaignlark');
$sandbox->fault('mailingcore', { match => { account => 'down' }, times => undef, action => { status => 503 } });
$sandbox->fault('campaignlark', { match => { account => 'single' }, times => undef, action => { status => 500 } });
$gone->stop;
$node->safe_psql('postgres', "INSERT INTO $_ SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 50) g") foreach 'down', 'refusing', 'single';

foreach my $name ('down', 'refusing', 'single')
{
	wait_for("calls to $name", sub { attempts($name) >= 9 });
	like(status($name), qr/^unavailable\|50\|0\|(HTTP status 50\d|no answer: .*(refused|connect))/, "$name: many calls fail, but no contact");
}
my $calls = $sandbox->journal('mailingcore', account => 'down');
is(scalar(grep { @{ $_->{keys} } > 1 } @{$calls}[ 2 .. $#$calls ]), 0, 'after the first calls, each call tries a single contact');
cmp_ok(scalar(keys %{ { map { $_->{keys}[0] => 1 } @{$calls}[ 2 .. $#$calls ] } }), '>', 3, 'each call tries another contact');

$sandbox->clear_faults($_) foreach 'mailingcore', 'campaignlark';
$gone = start_sandbox(port => $port);
$gone->config('mailingcore', { account => 'refusing', keys => { mc_test_refusing => { scopes => ['contacts:write'] } } });
foreach my $case ([ 'down', $sandbox, 'mailingcore' ], [ 'refusing', $gone, 'mailingcore' ], [ 'single', $sandbox, 'campaignlark' ])
{
	my ($name, $at, $provider) = @$case;

	$node->safe_psql('postgres', "CALL contactsync_wait('$name')");
	is(status($name), 'idle|0|0', "$name: delivery resumes");
	is($at->count($provider, account => $name)->{contacts}, 50, 'all contacts arrive');
}

# down only for writing: a lookup before does not count as a success
prepare('writing', $sandbox, 'campaignlark', new_contacts => 'unsubscribed');
$sandbox->fault('campaignlark', { match => { account => 'writing', method => 'POST' }, times => undef, action => { status => 503 } });
$node->safe_psql(
	'postgres', q{
	ALTER TABLE writing ALTER consent DROP NOT NULL;
	INSERT INTO writing SELECT g, format('c%s@example.com', g), NULL FROM generate_series(1, 5) g;
});
wait_for('calls to write', sub { attempts('writing') >= 15 });
like(status('writing'), qr/^unavailable\|5\|0\|/, 'writing: many calls fail, but no contact');
$sandbox->clear_faults('campaignlark', account => 'writing');
$node->safe_psql('postgres', q{CALL contactsync_wait('writing')});
is($sandbox->count('campaignlark', account => 'writing')->{contacts}, 5, 'writing: all contacts arrive');

# a call that must be repeated unchanged, with a contact that the provider cannot process
prepare('sticky', $sandbox, 'spotzee');
$sandbox->fault('spotzee', { match => { account => 'sticky', email => 'bad@example.com' }, times => undef, action => { status => 500 } });
$sandbox->fault('spotzee', { match => { account => 'sticky' }, times => 8, action => { status => 503 } });
$node->safe_psql(
	'postgres', q{
	BEGIN;
	INSERT INTO sticky VALUES (1, 'bad@example.com');
	INSERT INTO sticky SELECT g, format('c%s@example.com', g) FROM generate_series(2, 50) g;
	COMMIT;
	CALL contactsync_wait('sticky');
});
is($node->safe_psql('postgres', q{SELECT key, reason FROM contactsync.failures WHERE server = 'sticky'}), '1|unavailable', 'the contact that cannot be processed fails');
is($sandbox->count('spotzee', account => 'sticky')->{contacts}, 49, 'all other contacts arrive');

# one contact that always fails, among others
$sandbox->fault('campaignlark', { match => { account => 'single', email => 'bad@example.com' }, times => undef, action => { status => 500 } });
$node->safe_psql(
	'postgres', q{
	INSERT INTO single VALUES (100, 'bad@example.com'), (101, 'good@example.com');
	CALL contactsync_wait('single');
});
is( $node->safe_psql('postgres', q{SELECT key, reason, attempts, message FROM contactsync.failures WHERE server = 'single'}),
	'100|unavailable|3|HTTP status 500: Internal Server Error', 'a contact that always fails becomes a failure after max_retries');
is($sandbox->count('campaignlark', account => 'single')->{contacts}, 51, 'other contacts do not fail');

# only such a contact: until another one succeeds, it is unknown whether the contact or the provider is at fault
$node->safe_psql('postgres', q{DELETE FROM single WHERE id = 100; SELECT contactsync_retry('single'); INSERT INTO single VALUES (102, 'bad@example.com')});
my $before = attempts('single');
wait_for('calls about a single contact', sub { attempts('single') >= $before + 6 });
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.failures WHERE key = '102'}), '0', 'the contact does not fail while no other succeeds');
$node->safe_psql('postgres', q{INSERT INTO single VALUES (103, 'other@example.com'); CALL contactsync_wait('single')});
is($node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM contactsync.failures WHERE server = 'single'}), '102', 'it fails as soon as another one succeeds');
is(status('single'), 'idle|0|1', 'the server is idle');

# the row that failed is deleted during the outage: each provider is probed with what an import finds
foreach my $provider ('caramel', 'owlat', 'spotzee', 'mailingcore', 'campaignlark')
{
	my $name = "emptied$provider";

	prepare($name, $sandbox, $provider);
	$node->safe_psql(
		'postgres', qq{
		ALTER TABLE $name DISABLE TRIGGER USER;
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 50) g;
		ALTER TABLE $name ENABLE TRIGGER USER;
	});
	$sandbox->fault($provider, { match => { account => $name }, times => undef, action => { status => 503 } });
	$node->safe_psql('postgres', qq{INSERT INTO $name VALUES (100, 'gone\@example.com')});
	wait_for('calls that fail', sub { attempts($name) >= 3 });
	$node->safe_psql('postgres', qq{DELETE FROM $name WHERE id = 100});
	wait_for('the deletion to be read', sub { status($name) =~ /^unavailable\|0\|/ });
	$sandbox->clear_faults($provider, account => $name);
	$node->safe_psql('postgres', qq{SELECT * FROM contactsync_import('$name', '$name', automations => 'paused'); CALL contactsync_wait('$name')});
	is($sandbox->count($provider, account => $name)->{contacts}, 50, "$provider: an import ends an outage after which nothing was queued");
}

$node->stop;
done_testing();
