# Whatever statement changes rows, both kinds of provider receive the committed values, and unchanged contacts are not resent.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# the rows in the table, and the contacts at the providers, as lines
sub expected
{
	return $node->safe_psql('postgres',
		q{SELECT concat_ws('|', id, lower(email), first_name, newsletter, plan) FROM customers ORDER BY id});
}

sub bulk
{
	my @contacts = sort { $a->{externalId} <=> $b->{externalId} } @{ $sandbox->contacts('mailingcore') };

	return join("\n",
		map { join('|', $_->{externalId}, $_->{email}, $_->{attributes}{firstName}, $_->{optIn} ? 't' : 'f', $_->{attributes}{plan}) }
		  @contacts);
}

# CampaignLark has no external id
sub single
{
	my @contacts = sort { $a->{fields}{points} <=> $b->{fields}{points} } @{ $sandbox->contacts('campaignlark') };

	return join("\n",
		map { join('|', $_->{fields}{points}, $_->{email_address}, $_->{fields}{first_name}, $_->{status} eq 'SUBSCRIBED' ? 't' : 'f', $_->{fields}{plan}) }
		  @contacts);
}

sub requests { return $sandbox->count('mailingcore')->{requests} + $sandbox->count('campaignlark')->{requests}; }

sub deliver
{
	$node->safe_psql('postgres', "CALL contactsync_wait('mailingcore'); CALL contactsync_wait('campaignlark')");
}

create_server($node, $sandbox, 'mailingcore', server => { pace => 1000, burst => 1000 });
create_server($node, $sandbox, 'campaignlark', server => { pace => 1000, burst => 1000 });
$sandbox->config($_, { limits => { $_ eq 'mailingcore' ? 'client' : 'workspace' => undef } }) foreach 'mailingcore', 'campaignlark';

$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, first_name text, newsletter boolean NOT NULL DEFAULT false,
		plan text NOT NULL DEFAULT 'free', note text);
	SELECT contactsync_watch('customers', 'mailingcore', '{"email": "email", "external_id": "id", "first_name": "first_name",
		"opt_in": "newsletter", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0');
	SELECT contactsync_watch('customers', 'campaignlark', '{"email": "email", "first_name": "first_name",
		"opt_in": "newsletter", "attributes": {"plan": "plan", "points": "id"}}', on_delete => 'unsubscribe', delete_delay => '0');
});

# INSERT, COPY, UPDATE, ON CONFLICT, MERGE
$node->safe_psql(
	'postgres', q{
	INSERT INTO customers VALUES (1, 'Jane@Example.com', 'Jane', true), (2, 'joe@example.com', 'Joe', false);
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'C' || g, g % 2 = 0, 'pro' FROM generate_series(3, 30) g;
	COPY customers FROM PROGRAM 'printf "31,x31@example.com,Eks,t,free,\n32,x32@example.com,Ypsilon,f,pro,\n"' (FORMAT csv);
});
deliver();
is(bulk(), expected(), 'inserted and copied rows arrive at MailingCore');
is(single(), expected(), 'inserted and copied rows arrive at CampaignLark');

$node->safe_psql(
	'postgres', q{
	UPDATE customers SET plan = 'gold' WHERE id % 3 = 0;
	INSERT INTO customers VALUES (2, 'joe@example.com', 'Joseph'), (33, 'new@example.com', 'New')
		ON CONFLICT (id) DO UPDATE SET first_name = excluded.first_name;
	MERGE INTO customers c USING (VALUES (4, 'Merged'), (34, 'Fresh')) AS v (id, name) ON c.id = v.id
		WHEN MATCHED THEN UPDATE SET first_name = v.name
		WHEN NOT MATCHED THEN INSERT (id, email, first_name) VALUES (v.id, 'm34@example.com', v.name);
});
deliver();
is(bulk(), expected(), 'updated and merged rows arrive at MailingCore');
is(single(), expected(), 'updated and merged rows arrive at CampaignLark');

# unchanged contacts cause no call
my $requests = requests();
$node->safe_psql(
	'postgres', q{
	UPDATE customers SET note = 'seen';
	UPDATE customers SET email = email, plan = plan || '';
	BEGIN;
	UPDATE customers SET plan = plan || '?' WHERE id < 10;
	UPDATE customers SET plan = trim(plan, '?') WHERE id < 10;
	COMMIT;
	UPDATE customers SET email = ' ' || upper(email) WHERE id = 20;
});
deliver();
is(requests(), $requests, 'changes that do not affect the contact cause no call');
is( $node->safe_psql('postgres', q{SELECT bool_and(unchanged >= 10), sum(failures) FROM contactsync.status}),
	't|0', 'unchanged contacts are counted');

# deleted rows: each watch has its own on_delete
$node->safe_psql('postgres', q{UPDATE customers SET email = trim(lower(email)) WHERE id = 20; DELETE FROM customers WHERE id IN (1, 2)});
deliver();
is(bulk(), expected(), 'deleted rows are deleted at MailingCore');
is( join(',', map { "$_->{email_address} $_->{status}" } grep { $_->{fields}{points} < 3 } @{ $sandbox->contacts('campaignlark') }),
	'jane@example.com UNSUBSCRIBED,joe@example.com UNSUBSCRIBED',
	'deleted rows are unsubscribed at CampaignLark');

# one contact without a table
$requests = requests();
my $contact = q{{"email": "Direct@example.com", "first_name": "Di", "opt_in": true, "external_id": "d1"}};
$node->safe_psql('postgres', "SELECT contactsync_upsert('mailingcore', '$contact')");
$node->safe_psql('postgres', "SELECT contactsync_upsert('campaignlark', '$contact'::jsonb - 'external_id')");
deliver();
my ($direct) = grep { $_->{email} eq 'direct@example.com' } @{ $sandbox->contacts('mailingcore') };
is("$direct->{externalId} $direct->{attributes}{firstName}", 'd1 Di', 'contactsync_upsert() reaches MailingCore');
($direct) = grep { $_->{email_address} eq 'direct@example.com' } @{ $sandbox->contacts('campaignlark') };
is("$direct->{status} $direct->{fields}{first_name}", 'SUBSCRIBED Di', 'contactsync_upsert() reaches CampaignLark');
is(requests(), $requests + 2, 'each contact takes one call');

$node->safe_psql('postgres', "SELECT contactsync_upsert('mailingcore', '$contact')");
deliver();
is(requests(), $requests + 2, 'the same contact causes no further call');

is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state, ',') FROM contactsync.status}), 'idle', 'every server is idle');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.changes}), '0', 'the queue is empty');
is( $node->safe_psql('postgres', q{SELECT bool_and(verdict = 'done' OR verdict = 'step' AND method = 'GET'), sum(contacts) >= 60 FROM contactsync.calls}),
	't|t', 'the call log contains the calls');

$node->stop;
done_testing();
