# What the script on each provider's page does takes a watch with a mapping, at most claims => 'all', and an import; that it may start automations is accepted.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

$node->safe_psql(
	'postgres', q{
	CREATE ROLE shop LOGIN;
	CREATE TABLE users (id int PRIMARY KEY, email text, first_name text, last_name text, locale text, verified bool DEFAULT true);
	ALTER TABLE users OWNER TO shop;
	INSERT INTO users SELECT n, 'user' || n || '@example.com', 'First ' || n, 'Last ' || n, 'en', n <> 12 FROM generate_series(1, 12) n;
});

# Watch and import the users with a new account, and return its contacts. Some can be there already.
sub sync
{
	my ($provider, $mapping, $arguments, %param) = @_;

	create_server(
		$node, $sandbox, $provider,
		name => $provider,
		account => 'scripts',
		role => 'shop',
		server => { pace => 500, burst => 50, %{ $param{server} // {} } });
	$sandbox->config($provider, { account => 'scripts', %{ $param{config} } }) if $param{config};
	$sandbox->call('POST', "$provider/contacts", { account => 'scripts', contacts => $param{contacts} }) if $param{contacts};
	$node->safe_psql(
		'postgres', qq{
		SET SESSION AUTHORIZATION shop;
		SET client_min_messages = warning;
		SELECT contactsync_watch('users', '$provider', \$\$$mapping\$\$, 'verified'$arguments);
		SELECT contactsync_import('users', '$provider', automations => 'accepted');
		CALL contactsync_wait('$provider')});
	return @{ $sandbox->contacts($provider, account => 'scripts') };
}

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION shop; $sql");
}

sub bodies
{
	my ($provider) = @_;

	return map { JSON::PP::decode_json($_->{body}) } grep { $_->{method} eq 'POST' } @{ $sandbox->journal($provider, account => 'scripts') };
}

# Caramel: create or update all
my @contacts = sync('caramel', '{"email": "email", "first_name": "first_name", "last_name": "last_name"}', '');
is(scalar(@contacts), 11, 'Caramel: all contacts are there');
is(scalar(grep { $_->{first_name} =~ /^First / && $_->{last_name} =~ /^Last / && !$_->{marketing_consent} } @contacts),
	11, 'with their names, and no consent is claimed');

# Owlat: create all, update those that exist, and then add all to the topic
my $topic = 'topicsingle000000000000000000000';
@contacts = sync(
	'owlat', '{"email": "email", "first_name": "first_name", "last_name": "last_name"}', q{, claims => 'all'},
	server => { topic_id => $topic },
	config => { topics => { $topic => { double_opt_in => JSON::PP::false } } },
	contacts => [ { email => 'user2@example.com', firstName => 'Old' } ]);
is(scalar(grep { $_->{firstName} =~ /^First / } @contacts), 11, 'Owlat: all contacts are created or updated');
is(query(q{SELECT format('Added %s/%s', count(*) FILTER (WHERE topics <> '{}'), count(*)) FROM contactsync.contacts WHERE server = 'owlat'}),
	'Added 11/11', 'and added to the topic, and the numbers can be selected');
is(scalar(grep { $_->{topics}{$topic} } @contacts), 11, 'which is true at Owlat');

# Spotzee: a batch
@contacts = sync('spotzee', '{"external_id": "id", "email": "email", "first_name": "first_name", "last_name": "last_name", "locale": "locale"}', '');
is(scalar(grep { $_->{external_id} =~ /^\d+$/ && $_->{email} =~ /^user/ } @contacts), 11, 'Spotzee: all contacts are there');

# MailingCore: a bulk import with optIn true
@contacts = sync(
	'mailingcore',
	q({"email": "email", "external_id": "'crm-' || id", "locale": "locale", "opt_in": "true", "attributes": {"firstName": "first_name"}}),
	q{, claims => 'all'},
	contacts => [ { email => 'user2@example.com', externalId => 'crm-2', optIn => JSON::PP::false } ]);
is(scalar(grep { $_->{optIn} && $_->{externalId} =~ /^crm-/ } @contacts), 11, 'MailingCore: all contacts have optIn true, as on the page');
my ($item) = grep { $_->{externalId} eq 'crm-1' } map { @{ $_->{contacts} } } bodies('mailingcore');
is_deeply(
	$item,
	{ email => 'user1@example.com', externalId => 'crm-1', locale => 'en', optIn => JSON::PP::true, attributes => { firstName => 'First 1' } },
	'in the form of the page');

# CampaignLark: SUBSCRIBED with partial_update
@contacts = sync(
	'campaignlark',
	q({"email": "email", "first_name": "first_name", "last_name": "last_name", "tags": "array[1, 2]", "status": "'SUBSCRIBED'"}),
	q{, claims => 'all'});
is(scalar(grep { $_->{status} eq 'SUBSCRIBED' } @contacts), 11, 'CampaignLark: all contacts are subscribed');
is_deeply(
	(grep { $_->{email_address} eq 'user1@example.com' } bodies('campaignlark'))[0],
	{   email_address => 'user1@example.com',
		fields => { first_name => 'First 1', last_name => 'Last 1' },
		tags => [ 1, 2 ],
		status => 'SUBSCRIBED',
		partial_update => JSON::PP::true },
	'in the form of the page');

# Caramel on a low plan: submissions of a form that sets the consent
query(q{SELECT contactsync_unwatch('users', 'caramel'); DROP SERVER caramel CASCADE});
$node->safe_psql('postgres', q{TRUNCATE users; INSERT INTO users SELECT n, 'form' || n || '@example.com', 'First', 'Last', 'en' FROM generate_series(1, 5) n});
@contacts = sync('caramel', '{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "true"}', q{, claims => 'all'},
	server => { route => 'form', form_id => 'frm_import', form_pace => 500, account => 'forms' });
is(scalar(grep { $_->{email} =~ /^form/ && $_->{marketing_consent} } @contacts), 5, 'Caramel: a form takes contacts with consent');

is(query('SELECT count(*) FROM contactsync.failures'), '0', 'nothing fails');
$node->stop;
done_testing();
