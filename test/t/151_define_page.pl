# The worked example of docs/defining-a-provider.md, statement by statement, as a role without privileges.

use strict;
use warnings;

use ContactSync;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = slurp_file("$FindBin::RealBin/../../docs/defining-a-provider.md");
my @blocks = $page =~ /^```sql\n(.*?)^```$/gms;
my $node = start_node();

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO app');
cmp_ok(scalar @blocks, '>=', 4, 'the page has statements');
my @output;
foreach my $block (@blocks)
{
	my ($stdout, $stderr);
	my $code = $node->psql('postgres', "SET SESSION AUTHORIZATION app; $block", stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my ($first) = $block =~ /^(\w+ \S+)/;

	is($code, 0, "$first ...") or diag $stderr;
	push @output, $stdout;
}
is($output[1], "two people|request|t|{\"url\": \"https://api.pelikan.example/v2/lists/7/people\", \"body\": {\"people\": [{\"mail\": \"jane\@example.com\", \"name\": \"Jane\", \"wants_mail\": true}, {\"mail\": \"john\@example.com\"}]}, \"method\": \"PATCH\", \"headers\": {\"Accept\": \"application/json\", \"Content-Type\": \"application/json\"}}\n"
	. "two people|then|t|{\"polls\": false, \"verdict\": \"done\", \"outcomes\": [{\"claimed\": true, \"outcome\": \"ok\", \"opted_out\": false}, {\"code\": \"E7\", \"reason\": \"rejected\", \"claimed\": true, \"message\": \"blocked\", \"outcome\": \"rejected\", \"opted_out\": false}], \"throttled\": false}\n"
	. "too fast|then|t|{\"polls\": false, \"reason\": \"unavailable\", \"message\": \"too many requests\", \"verdict\": \"retry\", \"throttled\": true, \"retry_after\": 1.5}",
	'the examples hold');
is($output[2], "PATCH|https://api.pelikan.example/v2/lists/7/people|{\"people\":[{\"mail\":\"jane\@example.com\",\"wants_mail\":false}]}\n"
	. "halt|server|Pelikan does not accept the API key: unknown key", 'requests and conclusions without a server');
my ($error) = $page =~ m{as in `(/upsert/.*?)`}s;
$error =~ s/\s+/ /g;
is($node->safe_psql('postgres', q{SELECT owner FROM contactsync_providers() WHERE name = 'pelikan'}), '', 'the owner of the extension does not see it as theirs');
my (undef, undef, $stderr) = $node->psql('postgres', q{SET SESSION AUTHORIZATION app; SELECT contactsync_define('x', jsonb_set(definition, '{upsert,body,people,$each,mail}', '{"$": "mail"}')) FROM contactsync_providers() WHERE name = 'pelikan'});
like($stderr, qr/\Q$error\E/, 'the error that the page quotes');

done_testing();
