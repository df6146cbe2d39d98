# After a provider has lost its data: contactsync_mark_stale() with a reconciliation sends everything again, without consent, or
# with the consent that was claimed before.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

my %provider = (
	mailingcore => { mapping => '"first_name": "name"' },
	campaignlark => { mapping => '"first_name": "name"' },
	owlat => { mapping => '"first_name": "name"', server => { topic_id => 'topicsingle000000000000000000000' } },
	spotzee => { mapping => '"external_id": "id", "first_name": "name"', server => { subscription_id => 5 } },
	caramel => { mapping => '"first_name": "name"', server => { form_id => 'frm_import', route => 'form', form_pace => 500 } });

sub can_be_mailed
{
	my ($name, $account) = @_;
	return join(' ', sort map { $_->{email} =~ s/\@.*//r } grep { $_->{mailable} } @{ $sandbox->call('GET', "$name/mailable", undef, account => $account) });
}

# Send three rows to a new account, and have the provider lose them.
sub lose
{
	my ($name, $account) = @_;
	my $p = $provider{$name};

	create_server($node, $sandbox, $name, account => $account, role => 'shop', server => { pace => 500, burst => 50, bulk_guard => 0, %{ $p->{server} // {} } });
	$sandbox->config('owlat', { account => $account, topics => { topicsingle000000000000000000000 => { double_opt_in => JSON::PP::false } } }) if $name eq 'owlat';
	sql(qq{
		CREATE TABLE $account (id int PRIMARY KEY, email text, name text, wants boolean);
		SET client_min_messages = error;
		SELECT contactsync_watch('$account', '$account', '{"email": "email", $p->{mapping}, "opt_in": "wants"}');
		INSERT INTO $account VALUES (1, 'yes\@$account.example', 'Y', true), (2, 'left\@$account.example', 'L', true), (3, 'no\@$account.example', 'N', false);
		CALL contactsync_wait('$account')});
	is(can_be_mailed($name, $account), 'left yes', "$account: those who consent can be mailed");
	$node->safe_psql('postgres', qq{UPDATE contactsync.contact c SET opted_out = true FROM contactsync.endpoint e
		WHERE e.id = c.endpoint AND e.server = '$account' AND 'left\@$account.example' IN (c.upsert_key, c.email)});
	foreach my $person (qw(yes left no))
	{
		$sandbox->call('DELETE', "$name/contacts", undef, account => $account, map { $_ => "$person\@$account.example" } qw(email email_address));
	}
	is(can_be_mailed($name, $account), '', "$account: nobody can when they are lost");
	return;
}

foreach my $name (sort keys %provider)
{
	lose($name, "${name}keep");
	sql(qq{SELECT contactsync_mark_stale('${name}keep'); SELECT contactsync_reconcile('${name}keep', '${name}keep', automations => 'accepted'); CALL contactsync_wait('${name}keep')});
	# Spotzee takes whoever exists for subscribed
	is(can_be_mailed($name, "${name}keep"), $name eq 'spotzee' ? 'yes' : '', "$name: no consent is claimed again");

	lose($name, "${name}again");
	sql(qq{SELECT contactsync_mark_stale('${name}again', claims => 'again'); SELECT contactsync_reconcile('${name}again', '${name}again', automations => 'accepted'); CALL contactsync_wait('${name}again')});
	is(can_be_mailed($name, "${name}again"), 'yes', "$name: consent is claimed again if that is asked for; nobody is subscribed who is known to have opted out");
	my $calls = $sandbox->count($name, account => "${name}again")->{requests};
	sql(qq{SELECT contactsync_reconcile('${name}again', '${name}again', automations => 'accepted'); CALL contactsync_wait('${name}again')});
	is($sandbox->count($name, account => "${name}again")->{requests}, $calls, "$name: once");
}

# a contact that comes back is not opted in, which a pull does not take for an opt-out; one who opts out after that has
lose('mailingcore', 'mcpulled');
sql(q{SELECT contactsync_pull('mcpulled')});
sql(q{UPDATE mcpulled SET wants = false WHERE id < 3; CALL contactsync_wait('mcpulled'); UPDATE mcpulled SET wants = true WHERE id < 3; CALL contactsync_wait('mcpulled'); SELECT contactsync_pull('mcpulled')});
is(can_be_mailed('mailingcore', 'mcpulled'), 'left yes', 'pulled: both give consent again');
$sandbox->call('DELETE', 'mailingcore/contacts', undef, account => 'mcpulled', email => "$_\@mcpulled.example") foreach qw(yes left);
sql(q{SELECT contactsync_mark_stale('mcpulled'); SELECT contactsync_reconcile('mcpulled', 'mcpulled'); CALL contactsync_wait('mcpulled'); SELECT contactsync_pull('mcpulled')});
is(sql(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'mcpulled' AND email LIKE 'yes@%'}), 0, 'pulled: a contact that came back has not opted out');
$node->safe_psql('postgres', q{UPDATE contactsync.contact SET synced_at = synced_at - interval '1 day' WHERE email LIKE 'left@mcpulled%' OR upsert_key LIKE 'left@mcpulled%'});
$node->safe_psql('postgres', q{UPDATE contactsync.endpoint SET stale_before = stale_before - interval '2 days' WHERE server = 'mcpulled'});
$sandbox->call('POST', 'mailingcore/people', { account => 'mcpulled', email => 'left@mcpulled.example', act => 'opt_out' });
sql(q{SELECT contactsync_pull('mcpulled')});
sql(q{SELECT contactsync_mark_stale('mcpulled', claims => 'again'); SELECT contactsync_reconcile('mcpulled', 'mcpulled'); CALL contactsync_wait('mcpulled')});
is(can_be_mailed('mailingcore', 'mcpulled'), 'yes', 'pulled: consent is claimed again, but not of who opted out after that');

my ($status, undef, $err) = $node->psql('postgres', q{SELECT contactsync_mark_stale('mailingcoreagain', claims => 'all')}, extra_params => [ '-U', 'shop' ]);
like($err, qr/invalid value for "claims": "all"\nHINT:  Use 'keep' to claim no consent again/, 'another value is rejected');

$node->stop;
done_testing();
