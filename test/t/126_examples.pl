# docs/examples: run each file, as into test/demo.sh --shell, on tables of the shapes that these databases have, and look at
# what arrives, and at who could be mailed.
use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('contactsync.clock_speed' => 20);
my @providers = qw(caramel campaignlark mailingcore owlat spotzee);

my %tables = (
	pagila => q{
		CREATE TABLE country (country_id serial PRIMARY KEY, country text NOT NULL, last_update timestamptz NOT NULL DEFAULT now());
		CREATE TABLE city (city_id serial PRIMARY KEY, city text NOT NULL, country_id int NOT NULL REFERENCES country, last_update timestamptz NOT NULL DEFAULT now());
		CREATE TABLE address (address_id serial PRIMARY KEY, address text NOT NULL, address2 text, district text NOT NULL, city_id int NOT NULL REFERENCES city,
			postal_code text, phone text NOT NULL, last_update timestamptz NOT NULL DEFAULT now());
		CREATE TABLE customer (customer_id serial PRIMARY KEY, store_id int NOT NULL, first_name text NOT NULL, last_name text NOT NULL, email text,
			address_id int NOT NULL REFERENCES address, activebool boolean NOT NULL DEFAULT true, create_date date NOT NULL DEFAULT CURRENT_DATE,
			last_update timestamptz DEFAULT now(), active int);
		INSERT INTO country (country) VALUES ('Japan'), ('Spain');
		INSERT INTO city (city, country_id) VALUES ('Sasebo', 1), ('Ourense', 2);
		INSERT INTO address (address, district, city_id, phone) VALUES ('1913 Hanoi Way', 'Nagasaki', 1, '28303384290'), ('47 MySakila Drive', 'Galicia', 2, '');
		INSERT INTO customer (store_id, first_name, last_name, email, address_id, activebool) VALUES
			(1, 'MARY', 'SMITH', 'MARY.SMITH@sakilacustomer.org', 1, true),
			(1, 'PATRICIA', 'JOHNSON', 'PATRICIA.JOHNSON@sakilacustomer.org', 2, true),
			(2, 'SHEILA', 'WELLS', 'SHEILA.WELLS@sakilacustomer.org', 2, false)},
	chinook => q{
		CREATE TABLE "Customer" ("CustomerId" int PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "LastName" varchar(20) NOT NULL, "Company" varchar(80),
			"Address" varchar(70), "City" varchar(40), "State" varchar(40), "Country" varchar(40), "PostalCode" varchar(10), "Phone" varchar(24),
			"Fax" varchar(24), "Email" varchar(60) NOT NULL, "SupportRepId" int);
		CREATE TABLE "Invoice" ("InvoiceId" int PRIMARY KEY, "CustomerId" int NOT NULL REFERENCES "Customer", "InvoiceDate" timestamp NOT NULL, "Total" numeric(10, 2) NOT NULL);
		INSERT INTO "Customer" VALUES (1, 'Luís', 'Gonçalves', 'Embraer', 'Av. Brigadeiro Faria Lima', 'São José dos Campos', 'SP', 'Brazil', '12227-000',
			'+55 (12) 3923-5555', NULL, 'luisg@embraer.com.br', 3), (2, 'Leonie', 'Köhler', NULL, 'Theodor-Heuss-Straße 34', 'Stuttgart', NULL, 'Germany', '70174',
			'+49 0711 2842222', NULL, 'leonekohler@surfeu.de', 5);
		INSERT INTO "Invoice" VALUES (1, 2, '2021-01-01', 1.98), (2, 2, '2021-02-01', 13.86)},
	northwind => q{
		CREATE TABLE customers (customer_id varchar(5) PRIMARY KEY, company_name varchar(40) NOT NULL, contact_name varchar(30), contact_title varchar(30),
			address varchar(60), city varchar(15), region varchar(15), postal_code varchar(10), country varchar(15), phone varchar(24), fax varchar(24));
		INSERT INTO customers VALUES ('ALFKI', 'Alfreds Futterkiste', 'Maria Anders', 'Sales Representative', 'Obere Str. 57', 'Berlin', NULL, '12209', 'Germany', '030-0074321'),
			('ANATR', 'Ana Trujillo Emparedados y helados', 'Ana Trujillo', 'Owner', 'Avda. de la Constitución 2222', 'México D.F.', NULL, '05021', 'Mexico', '(5) 555-4729'),
			('BLAUS', 'Blauer See Delikatessen', 'Hanna Moos', 'Sales Representative', 'Forsterstr. 57', 'Mannheim', NULL, '68306', 'Germany', '0621-08460')});

# Run an example in a database of its own.
sub run_example
{
	my ($name) = @_;
	my ($stdout, $stderr);

	$sandbox->reset;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, PostgreSQL::Test::Utils::slurp_file("$top/test/demo/servers.sql"), extra_params => [ '-v', 'sandbox=' . $sandbox->url ]);
	$node->safe_psql($name, $tables{$name});
	is($node->psql($name, PostgreSQL::Test::Utils::slurp_file("$top/docs/examples/$name.sql"), stdout => \$stdout, stderr => \$stderr, on_error_stop => 1), 0,
		"$name: the statements can be typed") or diag $stderr;
	is($node->safe_psql($name, q{SELECT string_agg(server || ': ' || message, E'\n') FROM contactsync.failures}), '', "$name: nothing fails");
	is_deeply([ map { $_->{email} } map { @{ mailable($_) } } @providers ], [], "$name: nobody can be mailed");
	return $stdout;
}

# Who could be mailed by a provider.
sub mailable { return [ grep { $_->{mailable} } @{ $sandbox->call("GET", "$_[0]/mailable") } ]; }

# The addresses that a provider has.
sub addresses
{
	return join ' ', sort map { $_->{email} // $_->{email_address} } @{ $sandbox->contacts($_[0]) };
}

run_example('pagila');
my %pagila = map { $_ => addresses($_) } @providers;
is($pagila{mailingcore}, 'mary.smith@sakilacustomer.org patricia.johnson@sakilacustomer.org', 'pagila: who is active arrives');
my ($mary) = grep { $_->{email} =~ /^mary/ } @{ $sandbox->contacts('mailingcore') };
is("$mary->{attributes}{firstName} $mary->{attributes}{city} $mary->{attributes}{country}", 'Mary Sasebo Japan', 'pagila: with columns of other tables');
is($pagila{caramel}, $pagila{mailingcore}, 'pagila: at Caramel');
is("$pagila{owlat}|$pagila{spotzee}", '|', 'pagila: where whoever exists is mailed, nobody is created');
is($pagila{campaignlark}, $pagila{mailingcore}, 'pagila: at CampaignLark');
$node->safe_psql('pagila', "UPDATE customer SET newsletter = true WHERE customer_id = 1");
$node->safe_psql('pagila', "CALL contactsync_wait('$_')") foreach @providers;
foreach my $provider (grep { $_ ne 'caramel' } @providers)
{
	is(join(' ', map { $_->{email} } @{ mailable($provider) }),
		'mary.smith@sakilacustomer.org', "pagila: who subscribes can be mailed by $provider");
}
$node->safe_psql('postgres', 'DROP DATABASE pagila WITH (FORCE)');

run_example('chinook');
is(addresses('mailingcore'), 'leonekohler@surfeu.de luisg@embraer.com.br', 'chinook: all arrive');
my ($leonie) = grep { $_->{email} =~ /^leone/ } @{ $sandbox->contacts('mailingcore') };
is("$leonie->{attributes}{lastName} $leonie->{attributes}{invoices} $leonie->{attributes}{spent}", "K\x{f6}hler 2 15.84", 'chinook: with what they bought');
$node->safe_psql('postgres', 'DROP DATABASE chinook WITH (FORCE)');

run_example('northwind');
is(addresses('mailingcore'), 'alfki@example.com blaus@example.com', 'northwind: who has an address arrives');
my ($hanna) = grep { $_->{email} =~ /^blaus/ } @{ $sandbox->contacts('mailingcore') };
is("$hanna->{attributes}{firstName} $hanna->{attributes}{lastName} $hanna->{attributes}{company}", 'Hanna Moos Blauer See Delikatessen', 'northwind: with a name that was split');
is(addresses('campaignlark'), addresses('mailingcore'), 'northwind: also from the view');
$node->safe_psql('northwind', q{UPDATE customers SET newsletter = true, updated_at = now() WHERE customer_id = 'BLAUS'});
$node->poll_query_until('northwind', q{SELECT EXISTS (SELECT FROM contactsync.contacts WHERE server = 'owlat' AND upsert_key = 'blaus@example.com' AND consent = 'claimed')})
  or die 'timed out waiting for the view to be polled';
is(addresses('owlat'), 'blaus@example.com', 'northwind: a change of a row is found in the view');

$node->stop;
done_testing();
