# A changed row does not undo what people did at the provider, and decisions recorded by the application arrive.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

my %provider = (
	mailingcore => {
		key => 'email',
		out => { optIn => JSON::PP::false },
		is_in => sub { $_[0]{optIn} }
	},
	campaignlark => {
		key => 'email_address',
		out => { status => 'UNSUBSCRIBED' },
		is_in => sub { $_[0]{status} eq 'SUBSCRIBED' }
	});

foreach my $name (sort keys %provider)
{
	my $p = $provider{$name};
	my $account = "consent$name";
	my $settle = sub { $node->safe_psql('postgres', "$_[0]; CALL contactsync_wait('$account')"); };
	my $is_in = sub { $p->{is_in}->(@{ $sandbox->contacts($name, account => $account) }) ? 1 : 0 };

	create_server($node, $sandbox, $name, account => $account, server => { pace => 500, burst => 50 });
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, wants boolean, first_name text);
		SELECT contactsync_watch('$name', '$account', '{"email": "email", "opt_in": "wants", "first_name": "first_name"}')});

	$settle->("INSERT INTO $name VALUES (1, 'jane\@example.com', true, 'Jane')");
	is($is_in->(), 1, "$name: an opt-in arrives");

	$sandbox->call('POST', "$name/contacts",
		{ account => $account, contacts => [ { $p->{key} => 'jane@example.com', %{ $p->{out} } } ] });
	$settle->("UPDATE $name SET first_name = 'Janet'");
	is($is_in->(), 0, "$name: a change of the row does not undo an opt-out at the provider");
	$settle->("UPDATE $name SET first_name = 'Jane'");
	is($is_in->(), 0, "$name: nor does another change");

	# failures of the provider in between make no difference
	$sandbox->fault($name, { match => { account => $account }, effect => 'after', times => 2, action => { status => 503 } });
	$settle->("UPDATE $name SET first_name = 'Jana'");
	is($is_in->(), 0, "$name: nor does a repeated call");

	$settle->("UPDATE $name SET wants = false");
	is($is_in->(), 0, "$name: an opt-out arrives");
	$settle->("UPDATE $name SET wants = true");
	is($is_in->(), 1, "$name: a new opt-in is the decision of the person, and arrives");
	# an opt-out whose answer is lost, and whose row opts in again before the outcome is known
	$sandbox->fault($name, { match => { account => $account }, effect => 'after', action => { reset => 'inside', stall => \1 } });
	my $since = $sandbox->count($name, account => $account)->{requests};
	$node->safe_psql('postgres', "UPDATE $name SET wants = false");
	$sandbox->wait_for_journal($name, sub { @_ > $since }, account => $account);
	$node->safe_psql('postgres', "UPDATE $name SET wants = true");
	$sandbox->clear_faults($name);
	$settle->('SELECT');
	is($is_in->(), 1, "$name: an opt-in after an opt-out whose answer was lost arrives");

	# the same with a restart in between, and another row that said no before
	$settle->("INSERT INTO $name VALUES (2, 'jane\@example.com', false, 'Jill')");
	is($is_in->(), 0, "$name: the opt-out of another row arrives");
	$sandbox->fault($name, { match => { account => $account }, effect => 'after', times => undef, action => { status => 503 } });
	$since = $sandbox->count($name, account => $account)->{requests};
	$node->safe_psql('postgres', "UPDATE $name SET wants = false WHERE id = 1");
	$sandbox->wait_for_journal($name, sub { @_ > $since }, account => $account);
	$node->stop;
	$node->start;
	$node->safe_psql('postgres', "UPDATE $name SET wants = true WHERE id = 1");
	$sandbox->clear_faults($name);
	$settle->('SELECT');
	is($is_in->(), 1, "$name: an opt-in after an opt-out whose answer was lost arrives, also if another row had said no before");
	$settle->("DELETE FROM $name WHERE id = 2");
	$settle->("UPDATE $name SET wants = NULL, first_name = 'J'");
	is($is_in->(), 1, "$name: an unknown consent changes nothing");
}

# new contacts without a consent
my ($status, $out, $err) = $node->psql('postgres', q{
	CREATE TABLE silent (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('silent', 'consentcampaignlark', '{"email": "email"}')});
isnt($status, 0, 'a watch that would make CampaignLark subscribe everybody is rejected');
like($err, qr/subscribes every new contact/, 'the error states the reason');
like($err, qr/new_contacts/, 'the hint names the option');

$node->safe_psql(
	'postgres', q{
	ALTER SERVER consentcampaignlark OPTIONS (ADD new_contacts 'unsubscribed');
	SELECT contactsync_watch('silent', 'consentcampaignlark', '{"email": "email"}');
	INSERT INTO silent VALUES (1, 'ann@example.com'), (2, 'jane@example.com');
	CALL contactsync_wait('consentcampaignlark')});
my %status = map { $_->{email_address} => $_->{status} } @{ $sandbox->contacts('campaignlark', account => 'consentcampaignlark') };
is($status{'ann@example.com'}, 'UNSUBSCRIBED', 'a new contact gets the status of the option');
is($status{'jane@example.com'}, 'SUBSCRIBED', 'an existing contact keeps its status');

done_testing();
