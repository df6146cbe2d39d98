# What contactsync_preview() shows of rows is what is sent of them, at each provider: of new people, of those whom the provider
# knows, of changes, and of those whose consent is given later.
use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my $json = JSON::PP->new->canonical;

my %provider = (
	caramel => { mapping => '{"email": "email", "first_name": "name", "opt_in": "wants"}', server => { form_id => 'frm_import', form_pace => 500 } },
	campaignlark => { mapping => '{"email": "email", "first_name": "name", "opt_in": "wants"}' },
	mailingcore => { mapping => '{"email": "email", "external_id": "id", "opt_in": "wants", "attributes": {"name": "name"}}' },
	owlat => { mapping => '{"email": "email", "first_name": "name", "opt_in": "wants"}', server => { topic_id => 'topicsingle000000000000000000000' } },
	spotzee => { mapping => '{"external_id": "id", "email": "email", "first_name": "name", "opt_in": "wants"}', server => { subscription_id => 5 } });

# Return the previews of rows, by key.
sub previews
{
	my ($name, $condition) = @_;
	my $rows = $node->safe_psql('postgres',
		"SELECT COALESCE(jsonb_agg(p), '[]') FROM contactsync_preview('$name', '$name', ARRAY(SELECT id FROM $name WHERE $condition)) p");

	return map { $_->{key} => $_ } @{ decode_json($rows) };
}

# Return a request so that two can be compared, without the number of a call.
sub request
{
	my ($method, $url, $body) = @_;
	my $document = defined $body && length $body ? decode_json($body) : {};

	delete $document->{id} if ref $document eq 'HASH' && exists $document->{jsonrpc};
	return join ' ', $method, $url =~ s{^https?://[^/]+}{}r =~ s{^/(caramel|campaignlark|mailingcore|owlat|spotzee)(?=/)}{}r, $json->encode($document);
}

# Send what is queued, and compare the first request about each row with its preview.
sub compare
{
	my ($name, $provider, $what, $since, %previews) = @_;
	my @calls = grep { $_->{seq} > $since } @{ $sandbox->journal($provider, account => $name) };
	my %first;

	foreach my $call (@calls)
	{
		$first{ lc $_ } //= $call foreach @{ $call->{keys} };
	}
	foreach my $key (sort { $a <=> $b } keys %previews)
	{
		my $preview = $previews{$key};
		my ($call) = grep { defined } map { $first{ lc $_ } } grep { defined } ($preview->{contact}{email}, $preview->{upsert_key}, "$key");

		# a lookup names nobody in its body
		if (($preview->{method} // '') eq 'GET')
		{
			my $wanted = request(@$preview{qw(method url body)});
			is(scalar(grep { request(@$_{qw(method path body)}) eq $wanted } @calls), 1, "$provider, $what, row $key ($preview->{outcome}): it is looked up as it was shown");
			next;
		}
		if (!defined $preview->{method})
		{
			is($call ? request(@$call{qw(method path body)}) : undef, undef, "$provider, $what, row $key ($preview->{outcome}): nothing is sent");
			next;
		}
		is($call ? request(@$call{qw(method path body)}) : undef, request(@$preview{qw(method url body)}),
			"$provider, $what, row $key ($preview->{outcome}, " . ($preview->{consent} // 'no consent') . '): it is sent as it was shown');
	}
	return;
}

sub last_seq { my ($provider) = @_; return $sandbox->count($provider)->{last}; }

foreach my $provider (sort keys %provider)
{
	my $name = "shown$provider";
	my %contact = (email => 'known@example.com');

	$contact{external_id} = '4' if $provider eq 'spotzee';
	create_server($node, $sandbox, $provider, account => $name, server => { batch_size => 1, bulk_guard => 0, %{ $provider{$provider}{server} // {} } });
	$sandbox->call('POST', "$provider/contacts", { account => $name, contacts => [ { $provider eq 'campaignlark' ? (email_address => 'known@example.com', status => 'UNSUBSCRIBED') : %contact } ] });
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, name text, wants boolean);
		INSERT INTO $name VALUES (1, 'yes\@example.com', 'Yes', true), (2, 'no\@example.com', 'No', false), (3, 'null\@example.com', 'Null', NULL),
			(5, 'nobody', 'Nobody', true), (6, 'later\@example.com', 'Later', false);
		SELECT contactsync_watch('$name', '$name', '$provider{$provider}{mapping}')});

	# before anything was sent
	my $since = last_seq($provider);
	my %previews = previews($name, 'true');
	is(last_seq($provider), $since, "$provider: a preview sends nothing");
	is($previews{5}{outcome}, 'invalid', "$provider: what cannot be sent is shown as such");
	$node->safe_psql('postgres', "SELECT contactsync_import('$name', '$name', automations => 'accepted'); CALL contactsync_wait('$name')");
	compare($name, $provider, 'new', $since, %previews);
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT outcome, ',') FROM contactsync_preview('$name', '$name', ARRAY[1, 2, 3]) WHERE outcome NOT IN ('withheld', 'invalid')"),
		'unchanged', "$provider: what was sent is unchanged");

	# changes that are queued: values, a word, consent that is withdrawn; and a person whom the provider knows
	$node->safe_psql(
		'postgres', qq{
		SELECT contactsync_pause('$name');
		INSERT INTO $name VALUES (4, 'known\@example.com', 'Known', false);
		UPDATE $name SET name = 'Changed' WHERE id = 1;
		UPDATE $name SET wants = true WHERE id = 6;
		UPDATE $name SET wants = false WHERE id = 3});
	$since = last_seq($provider);
	%previews = previews($name, 'id <> 5');
	$node->safe_psql('postgres', "SELECT contactsync_resume('$name'); CALL contactsync_wait('$name')");
	compare($name, $provider, 'changed', $since, %previews);
}

$node->stop;
done_testing();
