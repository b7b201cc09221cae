"""Words by language: stop words, and the names of the months.

Stop words are function words, which say nothing about what a text is about. They are lower case and without
apostrophes: ``don't`` is the words ``don`` and ``t``. They are part of an analyzer's id: after a change here, the texts
of a store have to be indexed again. The names of the months are not: only queries are compared with them.
"""

__all__ = ["MONTHS", "STOP_WORDS"]

_STOP_WORDS = {
    "arabic": """
        أن أنا أنت أنه أو أي إلى إن إنه إذا ألا أم أما التي الذي الذين اللذان بعد بل بين تحت تكون تلك ثم حتى حول حيث
        خلال دون ذلك عن عند على عليه عليها غير فوق في فيه فيها قبل قد كان كانت كل كما كيف لا لدى لقد لكن لم لن له لها
        لهم ليس ليست ما ماذا متى مثل مع من منذ منه منها نحن نعم هذا هذه هل هم هن هنا هناك هو هي و وقد ولا ولم وما ومن
        وهو وهي يكون يا
    """,
    "danish": """
        af alle at blev bliver da de dem den denne der deres det dette dig din disse dit dog du efter eller en end er
        et for fra ham han hans har havde have hende hendes her hos hun hvad hvem hvor hvornår i ikke ind ja jeg jer
        jo kan kunne man med meget men mig min mit mod ned nej noget nogle nu når og også om op os over på sig sin
        skal skulle som sådan til ud under var vi vil ville vor være været
    """,
    "dutch": """
        aan al alles als altijd ander ben bij daar dan dat de der deze die dit doch doen door dus een en er geen had
        heb hebben heeft hem het hier hij hoe hun ik in is ja je jij jou jouw jullie kan kon kunnen maar me meer men
        met mij mijn moet na naar nee niet niets nog nu of om omdat ons ook op over te tegen toch toen tot u uit uw
        van veel voor waar waarom wanneer want waren was wat we wel werd wie wij wil worden wordt zal ze zei zelf zich
        zij zijn zo zonder zou
    """,
    "english": """
        a about after again all also am an and any are aren as at be because been before being both but by can could
        couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn have haven
        having he her here hers herself him himself his how i if in into is isn it its itself just let ll m me more
        most mustn my myself no nor not now of off on once only or other our ours ourselves out over own re s same
        shan she should shouldn so some such t than that the their theirs them themselves then there these they this
        those through to too under until up us ve very was wasn we were weren what when where which while who whom why
        will with won would wouldn you your yours yourself yourselves
    """,
    "finnish": """
        ei eivät emme en et ette että he hän häntä hänen ja jos joka jotka jo kanssa koska kuin kuka kun kuten lisäksi
        me meidän mikä minä minun minua missä mitä mutta myös ne niin nyt näin oli olemme olen olet olette oli olisi
        ollut on ovat se sen siinä sinä sinun sitä sitten tai te tämä tämän tästä vai vaikka vain
    """,
    "french": """
        a ai aie au aussi aux avaient avait avec avez avons c ce ces cet cette chez comme comment d dans de des donc
        dont du elle elles en est et étaient était étais été être eu eux fait il ils j je l la le les leur leurs lui m
        ma mais me même mes moi mon n ne ni nos notre nous on ont ou où par pas pour pourquoi qu quand que quel quelle
        quelles quels qui quoi s sa sans se ses si son sont suis sur t ta te tes toi ton tu un une vos votre vous y à
    """,
    "german": """
        aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist da damit dann das dass
        dein deine dem den denn der des dich die dies diese diesem diesen dieser dieses dir doch dort du durch ein
        eine einem einen einer eines er es etwas euch euer für gegen habe haben hat hatte hatten hier hin hinter ich
        ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem jeden jeder jedes jetzt kann kein keine
        können könnte man mein meine meinem meinen meiner mich mir mit nach nein nicht nichts noch nun nur ob oder
        ohne sehr sein seine seinem seinen seiner sich sie sind so soll solche sollte sondern sonst um und uns unser
        unsere unter viel vom von vor wann war waren warum was weil welche welcher welches wenn wer werde werden wie
        wieder will wir wird wirst wo wurde wurden würde zu zum zur zwar zwischen über
    """,
    "italian": """
        a agli ai al all alla alle allo anche avere aveva avevo c che chi ci come con cosa cui d da dagli dai dal dall
        dalla dalle dallo degli dei del dell della delle dello di dove e ed era erano ero essere fu gli ha hai hanno
        ho i il in io l la le lei li lo loro lui m ma mi mia mie miei mio ne negli nei nel nell nella nelle nello noi
        non nostra nostro o per perché più quale quando quanto quella quelle quelli quello questa queste questi questo
        s se sei si sia siamo sono sta stata stato su sua sue sui sul sull sulla sulle suo suoi t ti tra tu tua tuo un
        una uno v vi voi vostra vostro è
    """,
    "norwegian": """
        alle at av bare ble bli da de deg dem den denne der deres det dette din disse ditt du eller en enn er et etter
        for fra før ha hadde han hans har henne her hun hva hvem hvis hvor hvordan hvorfor i ikke inn ja jeg kan kunne
        man med meg men min mitt mot mye når nei noe noen nå og også om opp oss over på seg sin skal skulle som så til
        under ut var ved vi vil ville være vært vår
    """,
    "portuguese": """
        a ao aos aquela aquele aquilo as até com como da das de dela dele deles depois do dos e ela elas ele eles em
        entre era eram essa esse esta estamos estava este estou está estão eu foi foram há isso isto já lhe mais mas
        me mesmo meu meus minha minhas muito na nas nem no nos nossa nosso não nós o onde os ou para pela pelas pelo
        pelos por porque qual quando que quem se sem ser seu seus sim sobre somos sou sua suas são só também te tem
        tenho ter teu tinha tu tua têm um uma umas uns você vocês à às é
    """,
    "russian": """
        а без более бы был была были было быть в вам вас весь во вот все всего всех вы где да даже для до его ее ей
        если есть еще ещё её же за здесь и из или им их к как какая какой когда кто куда ли либо между меня мне мной
        мой моя мы на над надо нас наш не него нее нет неё ни них но ну о об однако он она они оно от очень по под
        после потом потому почему при про с сам себе себя со так также такой там тебе тебя тем то тогда того тоже той
        только том тот ту ты у уже чего чем через что чтобы чья эта эти это этого этой этом этот я
    """,
    "spanish": """
        a al algo antes aquel aquella como con cual cuando cuándo cuál cómo de del desde donde dos dónde durante e el
        ella ellas ellos en entre era eran es esa ese eso esta estaba estamos este esto estos estoy está están fue
        fueron ha había han has hasta hay he hemos la las le les lo los me mi mis mucho muy más mía mío nada ni no nos
        nosotros nuestra nuestro o os otra otro para pero poco por porque pues que quien quién qué se sea ser si sin
        sobre son soy su sus suya suyo sí también tanto te tengo ti tiene todo tu tus tuvo tú un una uno unos usted
        vosotros vuestra vuestro y ya yo él
    """,
    "swedish": """
        alla allt att av bara blev bli blir de dem den denna deras dess det detta dig din dina ditt du där då efter ej
        eller en er era ett från för ha hade han hans har henne hennes hon hur här i icke in inte ja jag kan kunde man
        med mellan men mig min mina mitt mot mycket ni nu när någon något några och om oss på samma sedan sig sin sina
        sitt ska skulle som så sådan till upp ut utan vad var varför vara varit vem vi vid vilken vill år är över
    """,
}

STOP_WORDS = {language: frozenset(words.split()) for language, words in _STOP_WORDS.items()}
"""By language."""

_MONTHS = {
    "arabic": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "danish": "januar februar marts april maj juni juli august september oktober november december",
    "dutch": "januari februari maart april mei juni juli augustus september oktober november december",
    "english": "january february march april may june july august september october november december",
    "finnish": (
        "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu joulukuu"
    ),
    "french": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "german": "januar februar märz april mai juni juli august september oktober november dezember",
    "italian": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "norwegian": "januar februar mars april mai juni juli august september oktober november desember",
    "portuguese": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "russian": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "swedish": "januari februari mars april maj juni juli augusti september oktober november december",
}

MONTHS = {
    language: {name: number for number, name in enumerate(names.split(), 1)} for language, names in _MONTHS.items()
}
"""By language, the number of each month by its name."""
