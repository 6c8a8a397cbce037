"""Names of countries, in lower case: a folder with such a name says where its files are from, and is no class."""

COUNTRIES = frozenset(
    name.strip()
    for name in """
afghanistan, albania, algeria, andorra, angola, anguilla, antarctica, antigua & barbuda, argentina, armenia,
aruba, australia, austria, azerbaijan, bahamas, bahrain, bangladesh, barbados, belarus, belgium, belize,
benin, bermuda, bhutan, bolivia, bosnia & herzegovina, botswana, bouvet island, brazil, britain, british
indian ocean territory, brunei, bulgaria, burkina faso, burundi, cambodia, cameroon, canada, cape verde,
caribbean nl, cayman islands, central african rep., chad, chile, china, christmas island, cocos, colombia,
comoros, congo, cook islands, costa rica, croatia, cuba, curaçao, cyprus, czech republic, czechia, côte
d'ivoire, denmark, djibouti, dominica, dominican republic, east timor, ecuador, egypt, el salvador, england,
equatorial guinea, eritrea, estonia, eswatini, ethiopia, falkland islands, faroe islands, fiji, finland,
france, french guiana, french polynesia, french s. terr., gabon, gambia, georgia, germany, ghana, gibraltar,
greece, greenland, grenada, guadeloupe, guam, guatemala, guernsey, guinea, guinea-bissau, guyana, haiti, heard
island & mcdonald islands, honduras, hong kong, hungary, iceland, india, indonesia, iran, iraq, ireland, isle
of man, israel, italy, ivory coast, jamaica, japan, jersey, jordan, kazakhstan, kenya, kiribati, korea,
kuwait, kyrgyzstan, laos, latvia, lebanon, lesotho, liberia, libya, liechtenstein, lithuania, luxembourg,
macau, madagascar, malawi, malaysia, maldives, mali, malta, marshall islands, martinique, mauritania,
mauritius, mayotte, mexico, micronesia, moldova, monaco, mongolia, montenegro, montserrat, morocco,
mozambique, myanmar, namibia, nauru, nepal, netherlands, new caledonia, new zealand, nicaragua, niger,
nigeria, niue, norfolk island, north macedonia, northern mariana islands, norway, oman, pakistan, palau,
palestine, panama, papua new guinea, paraguay, peru, philippines, pitcairn, poland, portugal, puerto rico,
qatar, romania, russia, rwanda, réunion, saint barthelemy, saint helena, saint kitts & nevis, saint lucia,
saint maarten, saint martin, saint pierre & miquelon, saint vincent, samoa, san marino, sao tome & principe,
saudi arabia, scotland, senegal, serbia, seychelles, sierra leone, singapore, slovakia, slovenia, solomon
islands, somalia, south africa, south georgia & the south sandwich islands, south sudan, spain, sri lanka,
sudan, suriname, svalbard & jan mayen, sweden, switzerland, syria, taiwan, tajikistan, tanzania, thailand,
togo, tokelau, tonga, trinidad & tobago, tunisia, turkey, turkmenistan, turks & caicos is, tuvalu, uganda, uk,
ukraine, united arab emirates, united states, uruguay, us minor outlying islands, usa, uzbekistan, vanuatu,
vatican city, venezuela, vietnam, virgin islands, wales, wallis & futuna, western sahara, yemen, zambia,
zimbabwe, åland islands
""".replace("\n", " ").split(",")
)
