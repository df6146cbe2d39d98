# Answers that do not arrive, arrive incomplete, or come from somebody else.

use strict;
use warnings;

use ContactSync;
use Test::More;

# The proxy of the environment must be ignored: with it nothing below would arrive.
$ENV{$_} = 'http://127.0.0.1:1' foreach qw(http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY);

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);
my $sent = 0;

# a slow machine may need long for a huge answer
create_server($node, $sandbox, 'campaignlark', server => { timeout => '1h', connect_timeout => '1h' });

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub send_contact
{
	my ($server) = @_;
	my $email = 'c' . ++$sent . '@example.com';

	sql(qq{SELECT contactsync_upsert('$server', '{"email": "$email", "opt_in": true}')});
	return $email;
}

# Return the calls to a server after a certain one: status, verdict and error of each.
sub calls
{
	my ($server, $after) = @_;
	my $rows = sql(qq{SELECT status, verdict, coalesce(error, '') FROM contactsync.calls WHERE server = '$server'
		AND id > $after ORDER BY id});

	return map { [ split /\|/, $_, 3 ] } split /\n/, $rows;
}

sub last_call { return sql('SELECT coalesce(max(id), 0) FROM contactsync.calls'); }

sub wait_for_state
{
	my ($server, $state) = @_;

	$node->poll_query_until('postgres', qq{SELECT state = '$state' FROM contactsync.status WHERE server = '$server'})
	  or die "timed out waiting for $server to be $state";
	return;
}

# Send a contact while the provider has a fault; check the first call, and that the contact arrives once.
sub survives
{
	my ($title, $fault, $status, $error) = @_;
	my $before = last_call();

	$sandbox->fault('campaignlark', $fault);
	my $email = send_contact('campaignlark');
	$sandbox->wait_for_contacts('campaignlark', $sent);
	wait_for_state('campaignlark', 'idle');

	my @calls = calls('campaignlark', $before);
	is($calls[0][0], $status, "$title: status");
	like($calls[0][2], $error, "$title: error");
	is(scalar(grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark') }), 1, "$title: one contact");
	return;
}

# Let the first call use a new connection, because libcurl itself repeats a call whose old connection is closed.
survives('reset before the answer', { action => { reset => 'before' } }, 0, qr/^no answer: .*(reset|Empty reply)/);
survives('reset inside the answer', { action => { reset => 'inside' } }, 0, qr/^no answer: /);
survives('half an answer', { action => { truncate => \1 } }, 0, qr{^no answer: (transfer closed|end of response) with \d+ bytes (remaining|missing)});
survives('half an answer after the effect', { effect => 'after', action => { truncate => \1 } }, 0, qr/^no answer: /);
sql(q{ALTER SERVER campaignlark OPTIONS (SET timeout '20s')});
survives('a stall', { action => { stall => \1 } }, 0, qr/^no answer: .*timed out/);
survives('a stall inside the answer', { action => { stall => \1, stall_at => 'inside' } }, 0, qr/^no answer: .*timed out/);
sql(q{ALTER SERVER campaignlark OPTIONS (SET timeout '1h')});
survives('a huge answer', { action => { huge => 9_000_000 } }, 0, qr/^no answer: answer larger than 8 MB$/);
survives('a damaged answer', { action => { invalid_json => \1 } }, 200, qr/./);
survives('a header without end', { action => { headers => { 'X-Long' => 'x' x 70_000 } } }, 0, qr/^no answer: .*header/);
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');

# Many calls share few connections.
my $before = $sandbox->count('campaignlark')->{connections};
sql(q{SELECT contactsync_upsert('campaignlark', jsonb_build_object('email', 'k' || n || '@example.com', 'opt_in', true))
	FROM generate_series(1, 100) n});
$sandbox->wait_for_contacts('campaignlark', $sent += 100);
my $count = $sandbox->count('campaignlark');
cmp_ok($count->{connections} - $before, '<=', 10, 'connections are reused');

# A redirect is not followed, because another host would receive the key.
my $elsewhere = start_sandbox();
$sandbox->fault('campaignlark', { times => undef, action => { redirect => $elsewhere->url . '/campaignlark/v1/contacts/upsert' } });
send_contact('campaignlark');
wait_for_state('campaignlark', 'halted');
like(sql(q{SELECT reason FROM contactsync.status WHERE server = 'campaignlark'}), qr/base_url/, 'a redirect halts the server');
is($elsewhere->count('campaignlark')->{requests}, 0, 'the target of the redirect receives no request');
$sandbox->clear_faults('campaignlark');
sql(q{ALTER SERVER campaignlark OPTIONS (SET timeout '30s')});
$sandbox->wait_for_contacts('campaignlark', $sent);
pass('ALTER SERVER has it tried again');

# If one provider stalls, the others are not affected, and nothing is held in the database meanwhile.
create_server($node, $sandbox, 'mailingcore');
$sandbox->fault('mailingcore', { times => undef, action => { stall => \1 } });
sql(q{ALTER SERVER mailingcore OPTIONS (ADD timeout '1h')});
sql(q{SELECT contactsync_upsert('mailingcore', '{"email": "stalled@example.com"}')});
$sandbox->wait_for_journal('mailingcore', sub { @_ > 0 });
send_contact('campaignlark');
$sandbox->wait_for_contacts('campaignlark', $sent);
wait_for_state('campaignlark', 'idle');
is(sql(q{SELECT in_flight FROM contactsync.status WHERE server = 'mailingcore'}), '1', 'the stalled call is still in flight');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'contactsync%' AND backend_xmin IS NOT NULL}),
	'0', 'no snapshot is held');
$sandbox->clear_faults('mailingcore');
$sandbox->wait_for_contacts('mailingcore', 1);
pass('the call ends when the provider answers');

# The certificate must be signed by an authority that is trusted, match the URL, and not have expired. Until then nothing is
# sent, no contact fails, and status says who has to do something.
my $tls = start_sandbox(tls => 1, clock_speed => $speed);
create_server($node, $tls, 'campaignlark', name => 'tls', server => { ca_file => undef, timeout => '1h', connect_timeout => '1h' });
sql(q{SELECT contactsync_upsert('tls', '{"email": "tls@example.com", "opt_in": true}')});

sub refuses_certificate
{
	my ($title, $error) = @_;
	my $before = last_call();

	$node->poll_query_until('postgres', qq{SELECT count(*) > 2 FROM contactsync.calls WHERE server = 'tls' AND id > $before});
	like((calls('tls', $before))[-1][2], $error, "$title: the call log says so");
	my $status = sql(q{SELECT concat_ws('|', state, backlog, failures, reason, hint) FROM contactsync.status WHERE server = 'tls'});
	like($status, qr/^unavailable\|1\|0\|/, "$title: the contact waits");
	like((split /\|/, $status)[3], $error, "$title: status says so");
	like($status, qr/\|.*certificate.*ALTER SERVER tls OPTIONS \((ADD|SET) ca_file '...'\).*ALTER SERVER tls OPTIONS \(SET base_url '...'\)/, "$title: ... and what to do");
	is($tls->count('campaignlark')->{requests}, 0, "$title: nothing is sent");
	return;
}

refuses_certificate('an unknown authority', qr/^no answer: invalid certificate: .*(unable to get local issuer|self.signed|unknown|not trusted|issuer)/);
$tls->certificate(expired => 1);
sql(qq{ALTER SERVER tls OPTIONS (ADD ca_file '$tls->{certificate}')});
refuses_certificate('a certificate that has expired', qr/^no answer: invalid certificate: .*expired/);
$tls->certificate(host => 'elsewhere.example');
refuses_certificate('a certificate of another host', qr/^no answer: invalid certificate: .*(does not match|no alternative certificate subject name matches|doesn't match)/);
$tls->certificate();
$tls->wait_for_contacts('campaignlark', 1);
pass('when the certificate has been renewed, delivery continues by itself');

# A host that does not exist.
sql(q{CREATE SERVER nowhere FOREIGN DATA WRAPPER contactsync
		OPTIONS (provider 'campaignlark', base_url 'https://nowhere.invalid');
	CREATE USER MAPPING FOR CURRENT_USER SERVER nowhere OPTIONS (api_key 'cl_sandbox');
	SELECT contactsync_upsert('nowhere', '{"email": "a@example.com", "opt_in": true}')});
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM contactsync.calls WHERE server = 'nowhere'});
like((calls('nowhere', 0))[0][2], qr/^no answer: Could not resolve host/, 'a host that does not exist');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/cl_sandbox|mc_test_sandbox/, 'the log contains no secret');

done_testing();
