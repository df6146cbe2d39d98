# docs/mapping.md: type its statements, as into test/demo.sh --shell, and look at what arrives.
use strict;
use warnings;

use ContactSync;
use FindBin;
use JSON::PP;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $text = PostgreSQL::Test::Utils::slurp_file("$top/docs/mapping.md");
my ($beginning, @sections) = split /^## (.+)\n/m, $text;
my %blocks = ('' => [ $beginning =~ /^```sql\n(.*?)^```$/gms ]);
while (my ($title, $body) = splice @sections, 0, 2)
{
	$blocks{$title} = [ $body =~ /^```sql\n(.*?)^```$/gms ];
}

my $node = start_node();
my $sandbox = start_sandbox();
$node->safe_psql('postgres', PostgreSQL::Test::Utils::slurp_file("$top/test/demo/servers.sql"),
	extra_params => [ '-v', 'sandbox=' . $sandbox->url ]);

# Type the next block of a section, or with no number all that are left; return the output of the last one.
sub type
{
	my ($title, $only) = @_;
	my ($stdout, $stderr);
	my @now = splice @{ $blocks{$title} }, 0, defined $only ? 1 : scalar @{ $blocks{$title} };

	delete $blocks{$title} if !@{ $blocks{$title} };
	foreach my $block (@now)
	{
		my $code = $node->psql('postgres', $block, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
		my ($first) = $block =~ /^(.{1,60})/;
		is($code, 0, "$title: $first ...") or diag $stderr;
	}
	return $stdout;
}

# Send all rows, and return the contact.
sub sent
{
	my ($provider) = @_;

	$node->safe_psql('postgres', "SELECT contactsync_touch('members', '$provider', 1); CALL contactsync_wait('$provider')");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'nothing fails');
	return $sandbox->contacts($provider)->[0];
}

type('');
type('Suggestions');
my ($tried, $filtered) = (type('See it before it happens', 0), type('See it before it happens', 0));
like($tried, qr/^1\|new\|\|\|\{.*"external_id": "1".*\|claimed if the provider does not know the person\|POST\|http.*\n2\|invalid\|invalid_email\|.*no @/m,
	'rows can be tried before they are sent');
like($tried, qr/^2\|filtered\|$/m, 'with a filter, too');
like($filtered, qr/^1\|new\|\|.*\|it was never sent\|\n2\|invalid\|/m, 'and with the mapping in use');
is($sandbox->count('mailingcore')->{requests}, 0, 'which sends nothing');
type('Consent');
my $contact = sent('mailingcore');
is($contact->{externalId}, 1, 'the suggested mapping is sent');
ok($contact->{optIn}, 'and consent that was mapped');

type('Quoted names');
is(sent('mailingcore')->{attributes}{first_name} // sent('mailingcore')->{attributes}{firstName}, 'Jane van der Berg', 'quoted names are columns');

type('One column with the whole name');
$contact = sent('mailingcore');
my %attributes = map { lc s/_//r => $contact->{attributes}{$_} } keys %{ $contact->{attributes} };
is("$attributes{firstname}|$attributes{lastname}", 'Jane|van der Berg', 'a name is split');

type('Dates and times');
$contact = sent('mailingcore');
is_deeply(
	{ map { $_ => $contact->{attributes}{$_} } qw(joined renewed renewedDay joinedUs joinedUnix) },
	{   joined => '2024-02-29',
		renewed => '2026-01-02T02:04:00+00:00',
		renewedDay => '2026-01-02',
		joinedUs => '02/29/2024',
		joinedUnix => 1709164800 },
	'dates and times have their forms');

type('Tags and topics');
is_deeply(sent('campaignlark')->{tags}, [ 1, 2 ], 'tags are numbers at CampaignLark');

my $watch = type('All other columns');
is_deeply(
	[ sort keys %{ decode_json((split /\n/, $watch)[-1])->{attributes} } ],
	[ sort qw(full_name language joined renewed_at plan) ],
	'"*" maps what no other expression uses');
is(sent('mailingcore')->{attributes}{plan}, 'pro', 'and sends it');

my $attributes = type('Other tables', 0);
is_deeply(
	decode_json((split /\n/, $attributes)[-1]),
	{ %{ sent('mailingcore')->{attributes} }, orders => 3, lastOrder => '2026-07-01', spent => 31.9 },
	'a subquery reads another table, also what has changed there');
like(type('Other tables'), qr/^\{"plans": \{"plan": "name"\}\}$/m, 'a table to which many rows refer');
is($sandbox->contacts('mailingcore')->[0]{attributes}{plan}, 'Pro', 'and what has changed there');
like(type('Views'), qr/"members": \{"id": "\\"MemberId\\""\}/, 'a view is taken apart');
my ($subscriber) = @{ $sandbox->contacts('spotzee') };
like(encode_json($subscriber), qr/"Pro"/, 'and its rows are sent when a table that it joins changes');

is_deeply([ keys %blocks ], [], 'all statements of docs/mapping.md were typed');

done_testing();
