# Undocumented answers of all five providers: temporary errors are waited for, errors of the account
# halt the server, errors of the contact are failures with a reason; and nothing is lost.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox(clock_speed => 10);
my $node = start_node('contactsync.clock_speed' => 10);
my $n = 0;

sub sql { return $node->safe_psql('postgres', $_[0]); }

my %mapping = (
	caramel => '{"email": "email"}',
	owlat => '{"email": "email"}',
	spotzee => '{"external_id": "id", "email": "email"}',
	mailingcore => '{"external_id": "id", "email": "email"}',
	campaignlark => '{"email": "email"}');
my %title = (map({ $_ => ucfirst } keys %mapping), mailingcore => 'MailingCore', campaignlark => 'CampaignLark');
my %server = (campaignlark => { new_contacts => 'subscribed' });
my %account = map { $_ => "strange$_" } keys %mapping;

# libcurl takes brotli where it was built with it
my $brotli = grep { /^brotli$/ } split /\n/, `curl-config --features`;

foreach my $provider (sort keys %mapping)
{
	create_server($node, $sandbox, $provider, account => $account{$provider}, server => { pace => 500, burst => 50, %{ $server{$provider} // {} } });
	sql(qq{
		CREATE TABLE $account{$provider} (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('$account{$provider}', '$account{$provider}', '$mapping{$provider}')});
}

sub has_arrived
{
	my ($provider) = @_;
	return scalar grep { ($_->{email} // $_->{email_address}) eq "c$n\@example.com" } @{ $sandbox->contacts($provider, account => $account{$provider}) };
}

sub begin
{
	my ($provider, $times, $action) = @_;

	$sandbox->fault($provider, { match => { account => $account{$provider} }, times => $times, action => $action });
	sql("INSERT INTO $account{$provider} VALUES ($n, 'c$n\@example.com')");
	return;
}

foreach my $provider (sort keys %mapping)
{
	my $name = $account{$provider};
	my $title = $title{$provider};

	# temporary errors: the call is repeated
	foreach my $case (
		[ 'nothing', { body => '' }, qr/^$title answered with status 200 and no body/ ],
		[ 'another document', { body => '[{"ok": true}]' }, qr/^$title answered with status 200 and a body that is not understood/ ],
		[ 'something else than JSON', { body => 'OK' }, qr/^$title answered with status 200 and a body that is not understood/ ],
		[ 'half a document', { invalid_json => \1 }, qr/^$title answered with status 20\d and a body that is not understood/ ],
		[ 'a number where an object was', { body => '7' }, qr/^$title answered with status 200 and a body that is not understood/ ],
		[ 'the page of a gateway', { status => 502, html => \1 }, qr/^HTTP status 502/ ],
		[ 'a status that does not exist', { status => 599, body => '' }, qr/^HTTP status 599/ ],
		[ 'a request that took too long', { status => 408, body => '' }, qr/^HTTP status 408/ ])
	{
		my ($what, $action, $error) = @$case;

		$n++;
		begin($provider, 2, $action);
		sql("CALL contactsync_wait('$name')");
		ok(has_arrived($provider), "$title: $what: the contact arrives");
		like(sql(qq{SELECT error FROM contactsync.calls WHERE server = '$name' AND verdict = 'retry' ORDER BY id DESC LIMIT 1}), $error, 'the call log contains the error');
	}
	my $retries = sql(qq{SELECT count(*) FROM contactsync.calls WHERE server = '$name' AND verdict = 'retry'});

	# the provider's own answer, in other bytes
	foreach my $case ([ 'a compressed answer', { gzip => \1 } ], $brotli ? [ 'an answer compressed by brotli', { brotli => \1 } ] : (), [ 'a byte order mark', { byte_order_mark => \1 } ], [ 'both', { gzip => \1, byte_order_mark => \1 } ])
	{
		my ($what, $action) = @$case;

		$n++;
		begin($provider, undef, $action);
		sql("CALL contactsync_wait('$name')");
		ok(has_arrived($provider), "$title: $what: the contact arrives");
		is(sql(qq{SELECT count(*) FROM contactsync.calls WHERE server = '$name' AND verdict = 'retry'}), $retries, 'no call is repeated');
		$sandbox->clear_faults($provider, account => $name);
	}

	# errors of the account: the server halts, with the reason
	foreach my $case (
		[ 'a page of a hotel', { status => 200, html => '<html><title>Welcome</title>' }, qr/^not_the_api: a web page answers instead of $title \(status 200, "Welcome"\)/ ],
		[ 'a page of a firewall', { status => 403, html => '<html><title>Blocked</title>' }, qr/^not_the_api: a web page answers .*"Blocked"/ ],
		[ 'a page that is not there', { status => 404, html => \1 }, qr/^wrong_url: / ],
		[ 'a redirection', { redirect => 'https://elsewhere.example/' }, qr/^redirected: .* redirects \(302 to https:\/\/elsewhere\.example\/\): check the option base_url/ ],
		[ 'a proxy', { status => 407, body => '' }, qr/^unauthorized: the proxy asks/ ],
		[ 'a method that is not there', { status => 405, body => '' }, qr/^wrong_url: / ],
		[ 'a media type that is not taken', { status => 415, body => '{}' }, qr/^request_refused: / ])
	{
		my ($what, $action, $reason) = @$case;

		$n++;
		begin($provider, undef, $action);
		$node->poll_query_until('postgres', qq{SELECT state = 'halted' FROM contactsync.status WHERE server = '$name'})
		  or die "timed out waiting for the halt: $provider, $what";
		like(sql(qq{SELECT reason FROM contactsync.status WHERE server = '$name'}), $reason, "$title: $what: the server halts with the reason");
		is(sql(qq{SELECT backlog, failures FROM contactsync.status WHERE server = '$name'}), '1|0', 'the change stays queued');
		$sandbox->clear_faults($provider, account => $name);
		sql(qq{ALTER SERVER $name OPTIONS (SET pace '@{[500 + $n]}'); CALL contactsync_wait('$name')});
		ok(has_arrived($provider), 'the contact arrives when the error is over');
	}

	# errors of the contact: it fails, and no other contact waits
	foreach my $case ([ 'a teapot', { status => 418, body => '' }, 'HTTP status 418 without a reason' ],
		[ 'a teapot that talks', { status => 418, body => '{"detail": "short and stout"}' }, 'short and stout' ],
		[ 'a refusal of another shape', { status => 400, body => '[1]' }, 'HTTP status 400 without a reason' ])
	{
		my ($what, $action, $message) = @$case;

		$n++;
		begin($provider, 1, $action);
		sql("CALL contactsync_wait('$name')");
		is(sql(qq{SELECT key, reason, message FROM contactsync.failures WHERE server = '$name'}), "$n|rejected|$message", "$title: $what: the contact fails");
		is(sql(qq{SELECT state FROM contactsync.status WHERE server = '$name'}), 'idle', 'the server continues');
		sql(qq{SELECT contactsync_retry('$name'); CALL contactsync_wait('$name')});
		ok(has_arrived($provider), 'the failure can be retried');
	}
}
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'no failure remains');

$node->stop;
done_testing();
